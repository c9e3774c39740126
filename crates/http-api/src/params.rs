//! Parameters of a request: from the URL, and from the form of a POST.

use std::fmt::Display;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Request};
use http::{HeaderMap, Method, header};
use model::{LongQuery, Matcher, RequestCost, TimestampMs, rfc3339};
use promql::{parse_duration, parse_selector, quote};

use crate::ApiError;
use crate::form::{self, Pairs};

/// All parameters in the order Go reads them: the form first, so that it wins where one value is
/// wanted.
#[derive(Debug, Default)]
pub struct Params(Pairs);

/// What the body of a request holds, by its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    UrlEncoded,
    Multipart,
    None,
}

impl Form {
    fn of(headers: &HeaderMap) -> Form {
        let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = value.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Form::UrlEncoded
        } else if essence.eq_ignore_ascii_case("multipart/form-data") {
            Form::Multipart
        } else {
            Form::None
        }
    }
}

fn failed(reason: impl Display) -> ApiError {
    ApiError::bad_data(format!("error parsing form values: {reason}"))
}

/// Reads `name=value&…` once its parameters are charged.
fn decoded(text: &[u8], cost: &mut RequestCost) -> Result<Pairs, ApiError> {
    cost.charge_parameters(count(text)).map_err(failed)?;
    form::decode(text).map_err(failed)
}

async fn multipart<S: Send + Sync>(
    request: Request,
    state: &S,
    cost: &mut RequestCost,
) -> Result<Pairs, ApiError> {
    let mut parts =
        Multipart::from_request(request, state).await.map_err(|e| failed(e.body_text()))?;
    let mut pairs = Pairs::new();
    while let Some(part) = parts.next_field().await.map_err(|e| failed(e.body_text()))? {
        cost.charge_parameters(1).map_err(failed)?;
        // as in Go, a file is no parameter
        let name = part.name().filter(|_| part.file_name().is_none()).map(str::to_owned);
        let value = part.bytes().await.map_err(|e| failed(e.body_text()))?;
        let Some(name) = name else { continue };
        let value = String::from_utf8(value.into());
        let value =
            value.map_err(|_| failed(format!("{} is not UTF-8", quote(name.as_bytes()))))?;
        pairs.push((name, value));
    }
    Ok(pairs)
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Params, ApiError> {
        let mut cost = RequestCost::default();
        let long = request.extensions().get::<LongQuery>().cloned();
        let query = match &long {
            Some(long) => long.as_bytes(),
            None => request.uri().query().unwrap_or_default().as_bytes(),
        };
        let url = decoded(query, &mut cost)?;
        let form =
            if request.method() == Method::POST { Form::of(request.headers()) } else { Form::None };
        let mut pairs = match form {
            Form::None => Pairs::new(),
            Form::UrlEncoded => {
                let form = Bytes::from_request(request, state).await;
                decoded(&form.map_err(|e| failed(e.body_text()))?, &mut cost)?
            }
            Form::Multipart => multipart(request, state, &mut cost).await?,
        };
        pairs.extend(url);
        Ok(Params(pairs))
    }
}

impl Params {
    /// The first value; an empty one counts as absent, as everywhere in Prometheus' API.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// All values of a parameter that may be given more than once.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Milliseconds of a Unix time in seconds or of RFC 3339 text.
    pub fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let invalid =
            |e| ApiError::parameter(name, format!("invalid time value for '{name}': {e}"));
        self.get(name).map(|text| parse_time(text).map_err(invalid)).transpose()
    }

    /// As [`Params::time`], but it must be there; Prometheus words the error differently.
    pub fn required_time(&self, name: &str) -> Result<i64, ApiError> {
        parse_time(self.get(name).unwrap_or_default()).map_err(|e| ApiError::parameter(name, e))
    }

    /// Milliseconds of a number of seconds or of a duration such as `1h30m`.
    pub fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|text| parse_span(text).map_err(|e| ApiError::parameter(name, e)))
            .transpose()
    }

    /// A time limit no longer than `longest`.
    pub fn timeout(&self, longest: Duration) -> Result<Duration, ApiError> {
        let given = self
            .duration("timeout")?
            .map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default()));
        Ok(given.map_or(longest, |given| given.min(longest)))
    }

    /// A boolean in Go's spellings.
    pub fn bool(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        match self.get(name) {
            None => Ok(default),
            Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
            Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
            Some(other) => Err(ApiError::parameter(
                name,
                format!("cannot parse {} to a bool", quote(other.as_bytes())),
            )),
        }
    }

    /// 0 means no limit.
    pub fn limit(&self) -> Result<u64, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(0) };
        let limit: i64 = text.parse().map_err(|_| {
            let reason =
                format!("strconv.Atoi: parsing {}: invalid syntax", quote(text.as_bytes()));
            ApiError::parameter("limit", reason)
        })?;
        u64::try_from(limit).map_err(|_| ApiError::parameter("limit", "limit must be non-negative"))
    }

    /// For metric metadata, where a negative limit means all.
    pub fn limit_or_all(&self) -> Result<Option<u64>, ApiError> {
        match self.get("limit") {
            None => Ok(None),
            Some(text) => match text.parse::<i64>() {
                Ok(limit) => Ok(u64::try_from(limit).ok()),
                Err(_) => Err(ApiError::bad_data("limit must be a number")),
            },
        }
    }

    /// The selectors of `match[]` for label calls, where Prometheus does not name the parameter.
    pub fn label_selectors(&self, cost: &mut RequestCost) -> Result<Vec<Vec<Matcher>>, ApiError> {
        self.all("match[]").map(|text| selector(text, cost).map_err(ApiError::bad_data)).collect()
    }

    /// The selectors of a parameter such as `match[]`.
    pub fn selectors(
        &self,
        name: &str,
        cost: &mut RequestCost,
    ) -> Result<Vec<Vec<Matcher>>, ApiError> {
        let invalid = |reason| ApiError::parameter(name, reason);
        self.all(name).map(|text| selector(text, cost).map_err(invalid)).collect()
    }

    /// Which part of the series is asked for; `None`: all of them.
    pub fn shard(&self) -> Result<Option<ShardInfo>, ApiError> {
        let Some(text) = self.get("shard_info") else { return Ok(None) };
        let info: ShardInfo =
            serde_json::from_str(text).map_err(|e| ApiError::parameter("shard_info", e))?;
        Ok(Some(info).filter(|info| info.total_shards > 0))
    }
}

/// How many parameters a form has; between separators that follow each other there is none.
fn count(form: &[u8]) -> usize {
    form.split(|b| *b == b'&').filter(|parameter| !parameter.is_empty()).count()
}

/// One of the parts that the series of a query are divided into, as Thanos' frontend spells it in
/// JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct ShardInfo {
    pub shard_index: u64,
    pub total_shards: u64,
    /// Whether series are divided by `labels`, or by all others.
    pub by: bool,
    pub labels: Vec<String>,
}

/// The largest distance from the epoch in seconds: that of the times that Prometheus supports,
/// which clients send back.
const MAX_SECONDS: f64 = 9_223_309_901_257_974.0;

/// Parses a selector, which the parser bounds by itself, and charges it to the request before the
/// next one.
fn selector(text: &str, cost: &mut RequestCost) -> Result<Vec<Matcher>, String> {
    let matchers = parse_selector(text).map_err(|e| e.to_string())?;
    cost.charge_made(&matchers).map_err(|e| e.to_string())?;
    Ok(matchers)
}

fn parse_time(text: &str) -> Result<i64, String> {
    match text {
        // how Go prints its earliest and latest times, which clients send back
        "-292273086-05-16T16:47:06Z" => return Ok(TimestampMs::PROMETHEUS_MIN.0),
        "292277025-08-18T07:12:54.999999999Z" => return Ok(TimestampMs::PROMETHEUS_MAX.0),
        _ => {}
    }
    if let Some(seconds) = parse_float(text).filter(|seconds| seconds.abs() <= MAX_SECONDS) {
        // that far from the epoch, a float cannot hold the milliseconds of whole seconds
        return Ok(seconds.trunc() as i64 * 1000 + (seconds.fract() * 1000.0).round() as i64);
    }
    let invalid = || format!("cannot parse {} to a valid timestamp", quote(text.as_bytes()));
    rfc3339::parse(text).map(|time| time.0).ok_or_else(invalid)
}

fn parse_span(text: &str) -> Result<i64, String> {
    let invalid = || format!("cannot parse {} to a valid duration", quote(text.as_bytes()));
    if let Some(seconds) = parse_float(text) {
        let nanoseconds = seconds * 1e9;
        if nanoseconds.is_nan() || nanoseconds.abs() >= i64::MAX as f64 {
            return Err(format!("{}. It overflows int64", invalid()));
        }
        return Ok((seconds * 1000.0).round() as i64);
    }
    parse_duration(text).map_err(|_| invalid())
}

/// Rust reads `infinity` and `nan` as floats and so does Go; neither is a time.
fn parse_float(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        Params(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn times_are_seconds_or_rfc3339() {
        for (text, ms) in [
            ("4", 4000),
            ("1767225600.123", 1_767_225_600_123),
            ("1e3", 1_000_000),
            ("-1.5", -1500),
            ("2026-01-01T00:00:00Z", 1_767_225_600_000),
            ("2026-01-01T01:00:00.5+01:00", 1_767_225_600_500),
            ("1767225600.0015", 1_767_225_600_001),
            ("-9223309901257974", -9_223_309_901_257_974_000),
            ("9223309901257974", 9_223_309_901_257_974_000),
            ("-292273086-05-16T16:47:06Z", -9_223_309_901_257_974_000),
            ("292277025-08-18T07:12:54.999999999Z", 9_223_309_901_257_974_999),
        ] {
            assert_eq!(parse_time(text), Ok(ms), "{text}");
        }
        for text in ["", "x", "NaN", "Inf", "1e300", "-9223309901257976", "2026-01-01"] {
            assert_eq!(
                parse_time(text).unwrap_err(),
                format!("cannot parse \"{text}\" to a valid timestamp")
            );
        }
    }

    #[test]
    fn durations_are_seconds_or_units() {
        assert_eq!(parse_span("0.5"), Ok(500));
        assert_eq!(parse_span("1h30m"), Ok(5_400_000));
        assert_eq!(parse_span("5x").unwrap_err(), "cannot parse \"5x\" to a valid duration");
        assert!(parse_span("1e300").unwrap_err().ends_with("It overflows int64"));
    }

    #[test]
    fn bools_limits_and_shards_are_checked() {
        let given = params(&[("dedup", "T"), ("limit", "-1"), ("partial_response", "maybe")]);
        assert!(given.bool("dedup", false).unwrap());
        assert!(given.bool("absent", true).unwrap());
        assert!(given.bool("partial_response", true).is_err());
        assert!(given.limit().is_err());
        let given = params(&[(
            "shard_info",
            r#"{"shard_index":1,"total_shards":3,"by":true,"labels":["a"]}"#,
        )]);
        let shard =
            ShardInfo { shard_index: 1, total_shards: 3, by: true, labels: vec!["a".to_owned()] };
        assert_eq!(given.shard().unwrap(), Some(shard));
        assert_eq!(params(&[("shard_info", "{}")]).shard().unwrap(), None);
        assert!(params(&[("shard_info", "{")]).shard().is_err());
    }

    async fn parsed(url: &str, form: String) -> Result<Params, ApiError> {
        let request = Request::post(url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(axum::body::Body::from(form))
            .unwrap();
        Params::from_request(request, &()).await
    }

    #[tokio::test]
    async fn url_and_form_together_have_so_many_parameters() {
        let params = parsed("/?&&a=1&&b", "a=2&".repeat(19_998)).await.unwrap();
        assert_eq!((params.get("a"), params.0.len()), (Some("2"), 20_000));
        let refused = parsed("/?a=1&b", "a&".repeat(19_999)).await.unwrap_err();
        assert!(format!("{refused:?}").contains(
            "error parsing form values: the request has 20001 parameters, more than the limit of \
             20000 per request"
        ));
    }

    async fn posted(content_type: &str, body: &str) -> Result<Params, String> {
        let request = Request::post("/?b=url").header(header::CONTENT_TYPE, content_type);
        let request = request.body(axum::body::Body::from(body.to_owned())).unwrap();
        Params::from_request(request, &()).await.map_err(|e| format!("{e:?}"))
    }

    #[tokio::test]
    async fn forms_are_read_whatever_the_case_of_their_type() {
        for kind in [
            "application/x-www-form-urlencoded",
            "Application/X-WWW-Form-URLEncoded; charset=UTF-8",
            "application/x-www-form-urlencoded;",
        ] {
            let params = posted(kind, "a=1+2&b=form").await.unwrap();
            assert_eq!((params.get("a"), params.get("b")), (Some("1 2"), Some("form")), "{kind}");
        }
        let params = posted("application/json", "a=1").await.unwrap();
        assert_eq!((params.get("a"), params.get("b")), (None, Some("url")));
    }

    #[tokio::test]
    async fn parts_of_multipart_forms_are_parameters_but_files_are_not() {
        let part = |disposition: &str, value: &str| {
            format!("--x\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n")
        };
        let mut body =
            part("name=\"query\"", "a&b=%zz") + &part("name=\"f\"; filename=\"f\"", "no");
        let kind = "Multipart/Form-Data; boundary=x";
        let cut = posted(kind, &body).await.unwrap_err();
        assert!(cut.contains("error parsing form values"), "{cut}");
        body += "--x--\r\n";
        let params = posted(kind, &body).await.unwrap();
        assert_eq!((params.get("query"), params.get("f")), (Some("a&b=%zz"), None));
        let many = part("name=\"a\"", "").repeat(20_000) + "--x--\r\n";
        assert!(posted(kind, &many).await.unwrap_err().contains("more than the limit of 20000"));
        assert!(posted("multipart/form-data", &body).await.is_err(), "without a boundary");
    }

    #[tokio::test]
    async fn a_query_that_was_too_long_for_its_uri_is_read_instead_of_it() {
        let mut request = Request::get("/?a=1").body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(LongQuery::new(b"a=2&b=%zz".as_slice()));
        assert!(Params::from_request(request, &()).await.is_err());
        let mut request = Request::get("/?a=1").body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(LongQuery::new(b"a=2".as_slice()));
        assert_eq!(Params::from_request(request, &()).await.unwrap().get("a"), Some("2"));
    }

    #[test]
    fn timeouts_only_get_shorter() {
        let longest = Duration::from_secs(120);
        assert_eq!(
            params(&[("timeout", "10s")]).timeout(longest).unwrap(),
            Duration::from_secs(10)
        );
        assert_eq!(params(&[("timeout", "1h")]).timeout(longest).unwrap(), longest);
        assert_eq!(params(&[]).timeout(longest).unwrap(), longest);
    }
}
