//! The table of requests, read.

#[derive(Debug, Default)]
pub(super) struct Request {
    /// The heading above it.
    pub(super) section: String,
    pub(super) method: String,
    /// As it is sent.
    pub(super) target: String,
    pub(super) headers: Vec<String>,
    pub(super) body: Option<String>,
    pub(super) differences: Vec<Difference>,
    /// Its line of the table.
    line: String,
}

/// An answer of a peer that is another one than ours.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) peer: String,
    pub(super) answer: String,
}

impl Request {
    pub(super) fn name(&self) -> String {
        let body = self.body.as_deref().unwrap_or_default();
        let headers = self.headers.join(" ");
        format!("{} {headers} {}", self.line, body.chars().take(80).collect::<String>())
    }
}

pub(super) fn parse(table: &str) -> Vec<Request> {
    let (mut requests, mut section) = (Vec::<Request>::new(), String::new());
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.to_owned();
        } else if let Some(detail) = line.strip_prefix("  ") {
            requests.last_mut().expect("a request above its details").add(detail);
        } else if !line.starts_with('#') {
            let (method, target) = line.split_once(' ').expect("a method and a target");
            requests.push(Request {
                section: section.clone(),
                method: method.to_owned(),
                target: repeated(target),
                line: line.to_owned(),
                ..Request::default()
            });
        }
    }
    requests
}

impl Request {
    fn add(&mut self, detail: &str) {
        let (word, rest) = detail.split_once(' ').expect("two words at least");
        match word {
            "header" => self.headers.push(rest.to_owned()),
            "body" => self.body = Some(rest.replace("\\r\\n", "\r\n")),
            "form" => {
                self.headers.push("Content-Type: application/x-www-form-urlencoded".to_owned());
                self.body = Some(repeated(rest));
            }
            peer => {
                let (answer, reason) = rest.split_once(": ").expect("an answer and its reason");
                assert!(super::PEERS.contains(&peer) && !reason.is_empty(), "{detail}");
                let (peer, answer) = (peer.to_owned(), answer.to_owned());
                self.differences.push(Difference { peer, answer });
            }
        }
    }
}

/// `{100*a}` is a hundred letters.
fn repeated(text: &str) -> String {
    let Some((before, rest)) = text.split_once('{') else { return text.to_owned() };
    let found = rest.split_once('}').and_then(|(inner, after)| {
        let (count, letter) = inner.split_once('*')?;
        Some((letter.repeat(count.parse().ok()?), after))
    });
    match found {
        Some((letters, after)) => format!("{before}{letters}{after}"),
        None => format!("{before}{{{}", repeated(rest)),
    }
}

#[test]
fn requests_are_read_with_their_details() {
    let table = "# a comment\n## A\nGET /a?q={x}{3*b}\n  header X: y\n  form a={2*c}\n  \
                 thanos 404 text/plain: it is not there\n\nPOST /b\n";
    let requests = parse(table);
    assert_eq!(requests.len(), 2);
    let first = &requests[0];
    assert_eq!((first.section.as_str(), first.target.as_str()), ("A", "/a?q={x}bbb"));
    assert_eq!((first.headers.len(), first.body.as_deref()), (2, Some("a=cc")));
    assert_eq!(first.differences[0].answer, "404 text/plain");
}
