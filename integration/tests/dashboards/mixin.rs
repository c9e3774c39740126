//! The expressions of Thanos' dashboards and alerts, read where Go keeps the module.

use std::path::PathBuf;
use std::process::Command;

use promql::ast::ExprKind;
use serde_json::Value;

use crate::harness::root;

/// The dashboards of what is here.
const DASHBOARDS: [&str; 5] = ["compact", "overview", "query", "sidecar", "store"];
const OTHERS: [&str; 4] = ["bucket-replicate", "query-frontend", "receive", "rule"];

/// Long enough for a few scrapes.
const INTERVAL: &str = "20s";

pub(super) struct Expression {
    pub(super) place: String,
    pub(super) text: String,
}

/// What is evaluated, and how many are not.
pub(super) struct Mixin {
    pub(super) wanted: Vec<Expression>,
    pub(super) skipped: usize,
}

pub(super) fn panels() -> Mixin {
    let wanted = DASHBOARDS.iter().flat_map(|name| dashboard(name)).collect();
    Mixin { wanted, skipped: OTHERS.iter().map(|name| dashboard(name).len()).sum() }
}

fn dashboard(name: &str) -> Vec<Expression> {
    let file = module().join(format!("examples/dashboards/{name}.json"));
    let text = std::fs::read_to_string(&file).expect("a dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let mut found = Vec::new();
    for row in dashboard["rows"].as_array().expect("rows") {
        for panel in row["panels"].as_array().expect("panels") {
            let place = format!("{name}, {}, {}", row["title"], panel["title"]);
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            for text in targets.iter().filter_map(|target| target["expr"].as_str()) {
                let text = text
                    .replace("$job", &format!("thanos-{name}"))
                    .replace("$__rate_interval", INTERVAL)
                    .replace("$interval", INTERVAL);
                if DASHBOARDS.contains(&name) {
                    assert!(!text.contains('$'), "an unknown variable in {text}");
                }
                found.push(Expression { place: place.clone(), text });
            }
        }
    }
    found
}

pub(super) fn alerts() -> Mixin {
    let text = std::fs::read_to_string(module().join("examples/alerts/alerts.yaml"));
    let file: Value = serde_yaml_ng::from_str(&text.expect("alerts")).expect("YAML");
    let mut mixin = Mixin { wanted: Vec::new(), skipped: 0 };
    for group in file["groups"].as_array().expect("groups") {
        for rule in group["rules"].as_array().expect("rules") {
            let text = rule["expr"].as_str().expect("an expression").to_owned();
            if OTHERS.iter().any(|other| text.contains(&format!("thanos-{other}"))) {
                mixin.skipped += 1;
                continue;
            }
            mixin.wanted.push(Expression { place: format!("alert {}", rule["alert"]), text });
        }
    }
    mixin
}

/// The selectors of an expression, without ranges.
pub(super) fn selectors(text: &str) -> Vec<String> {
    let expr = promql::parse_expr(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let mut found = Vec::new();
    expr.walk(&mut |node| {
        let span = match &node.kind {
            ExprKind::Vector(_) => node.span,
            ExprKind::Matrix(matrix) => matrix.selector_span,
            _ => return true,
        };
        found.push(text[span.start..span.end].trim().to_owned());
        false
    });
    found
}

/// The sources of the release of Thanos that is beside ours.
fn module() -> PathBuf {
    let output = Command::new("go")
        .args(["list", "-m", "-f", "{{.Dir}}", "github.com/thanos-io/thanos"])
        .current_dir(root().join("integration/peers/thanos"))
        .output()
        .expect("go runs");
    let folder = String::from_utf8(output.stdout).expect("a path in UTF-8");
    assert!(output.status.success() && !folder.trim().is_empty(), "go knows the module of Thanos");
    PathBuf::from(folder.trim())
}
