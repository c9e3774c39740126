//! All rows: the lists of `testkit::hostile`, each before the processes that meet it, and queries.

use testkit::hostile::{AskedServer, BLOCKS, CALLS, FORMS, STORES, clients, objects, prometheus};

use super::attack::{Attack, Paths};
use super::scene::{BLOCKS_END, FLEET_END, Scene};

pub(super) struct Row {
    pub(super) name: String,
    pub(super) attack: Attack,
}

fn row(name: impl Into<String>, attack: Attack) -> Row {
    Row { name: name.into(), attack }
}

/// Every scene with its rows; only those whose names contain this.
pub(super) fn scenes(only: &str) -> Vec<(Scene, Vec<Row>)> {
    let mut scenes = vec![
        (Scene::Fleet, [queries(), connections(), requests()].into_iter().flatten().collect()),
        (Scene::FewDescriptors, few_descriptors()),
    ];
    scenes.extend(BLOCKS.map(|block| {
        let ask = row(format!("block: {}", block.name), ask(BLOCKS_END));
        (Scene::Block(block), vec![ask, row(format!("compact: {}", block.name), Attack::Compact)])
    }));
    let name = |kind: &str, name: &str| format!("{kind}: {name}");
    scenes.extend(
        STORES.iter().map(|s| (Scene::Endpoint(*s), vec![row(name("endpoint", s.name), ask(1))])),
    );
    scenes.extend(objects().into_iter().map(|o| {
        let rows = vec![row(name("objects", o.answer.name), ask(1))];
        (Scene::Objects(o), rows)
    }));
    scenes.extend(prometheus().into_iter().map(|p| {
        let rows = vec![row(name("prometheus", p.answer.name), ask(1))];
        (Scene::Prometheus(p), rows)
    }));
    for (_, rows) in &mut scenes {
        rows.retain(|row| row.name.contains(only));
    }
    scenes.retain(|(_, rows)| !rows.is_empty());
    scenes
}

/// Everything that the API answers, over all data up to this second.
fn ask(time: i64) -> Attack {
    let all = encoded(r#"{__name__=~".+"}"#);
    let mut paths: Vec<String> = [
        format!("query?query=count({all})&time={time}"),
        format!("query?query=count_over_time({all}[13h])&time={time}"),
        format!("query_range?query={all}&start=0&end={time}&step=60"),
        format!("series?match[]={all}"),
        format!("labels?match[]={all}"),
    ]
    .into();
    paths.extend(
        ["labels", "label/job/values", "stores", "targets", "rules", "metadata"].map(Into::into),
    );
    // the block of very many samples ends a day later
    let late = time + 24 * 3600;
    paths.push(format!("query?query=max_over_time(hostile[2d])&time={late}&timeout=10s"));
    paths.push(format!("query?query=hostile[2d]&time={late}&timeout=10s"));
    Attack::Ask(Paths { paths, callers: 4 })
}

fn connections() -> Vec<Row> {
    let endless = range(&encoded("rate({__name__=~\".+\"}[5m])"), 60);
    let server = AskedServer {
        endless: &endless,
        form: "/api/v1/query",
        endless_call: "/thanos.Store/Series",
        message: EVERY_SERIES,
    };
    clients(&server).into_iter().map(|c| row(c.name, Attack::Client(c))).collect()
}

/// A SeriesRequest for all of time and a matcher `__name__!=""`: fields 2 (max_time) and 3
/// (matchers: type 1 = NEQ, name).
const EVERY_SERIES: &[u8] =
    b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x1a\x0c\x08\x01\x12\x08__name__";

fn few_descriptors() -> Vec<Row> {
    let silent = connections().into_iter().filter(|row| row.name.ends_with("says nothing"));
    silent.map(|r| row(format!("few descriptors: {}", r.name), r.attack)).collect()
}

fn requests() -> Vec<Row> {
    let forms = FORMS.iter().map(|f| row(format!("form: {}", f.name), Attack::Form(*f)));
    let calls = CALLS.iter().map(|c| row(format!("call: {}", c.name), Attack::Call(*c)));
    forms.chain(calls).collect()
}

/// The path of a range query over all data of the fleet.
fn range(query: &str, step: i64) -> String {
    let start = FLEET_END - 8 * 3600;
    format!(
        "/api/v1/query_range?query={query}&start={start}&end={FLEET_END}&step={step}&timeout=5s"
    )
}

fn below_api(path: String) -> String {
    path.trim_start_matches("/api/v1/").to_owned()
}

fn queries() -> Vec<Row> {
    let ask = |name: &str, callers, queries: &[String], step| {
        let paths = queries.iter().map(|q| below_api(range(&encoded(q), step))).collect();
        row(format!("query: {name}"), Attack::Ask(Paths { paths, callers }))
    };
    let subquery = "quantile_over_time(0.5, vector(time())[10m:1ms])".to_owned();
    let separator = "ab".repeat(10_000);
    let template = "$1".repeat(5_000);
    let texts = [
        format!("label_join({{__name__=~\".+\"}}, \"a\", \"{separator}\", \"pod\", \"job\")"),
        format!("label_replace({{__name__=~\".+\"}}, \"a\", \"{template}\", \"job\", \"(.*)\")"),
    ];
    let chain = |terms: usize| ["1"].repeat(terms).join("%2B");
    let paths = |name: &str, paths: Vec<String>| {
        row(format!("query: {name}"), Attack::Ask(Paths { paths, callers: 4 }))
    };
    let everything = ["{__name__=~\".+\"}", "topk(5, {__name__=~\".+\"})"].map(str::to_owned);
    let sums = ["sum by (namespace) (rate(http_requests_total[5m]))".to_owned()];
    let leave = below_api(range(&encoded("sum(rate({__name__=~\".+\"}[1h]))"), 5));
    vec![
        ask("a crowd of twenty", 20, &sums, 60),
        ask("every series at every step", 4, &everything, 15),
        ask("subqueries of milliseconds", 2, &[subquery], 3),
        ask("labels of 20 kB for every series", 4, &texts, 60),
        paths(
            "chains",
            vec![
                format!("query_explain?query={}", chain(440)),
                format!("parse_query?query={}", chain(10_000)),
                format!("format_query?query={}{}", "(".repeat(400), ")".repeat(400)),
            ],
        ),
        row("query: callers leave", Attack::AskAndLeave(Paths { paths: vec![leave], callers: 50 })),
    ]
}

/// For a URL; what does not stand in queries here stays as it is.
fn encoded(query: &str) -> String {
    let mut out = String::new();
    for c in query.chars() {
        match c {
            '+' => out += "%2B",
            '"' => out += "%22",
            ' ' => out += "%20",
            '{' => out += "%7B",
            '}' => out += "%7D",
            '$' => out += "%24",
            _ => out.push(c),
        }
    }
    out
}
