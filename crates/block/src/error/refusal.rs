//! What an object store's answer means for whoever runs it: status and code instead of a page of
//! XML, and what to do.

use std::fmt;

use model::error::in_one_line;

use super::Kind;

/// The answer to an operation that failed, or why there is none.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Such as `403 AccessDenied: Access Denied.`
    what: String,
    cure: &'static str,
    /// Where it is known better from the code than from what the client says.
    pub(super) kind: Option<Kind>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { what, cure, .. } = self;
        let what = what.trim_end_matches('.');
        if cure.is_empty() { f.write_str(what) } else { write!(f, "{what}; {cure}") }
    }
}

impl std::error::Error for Refusal {}

/// What is to be done about answers with one of some codes.
struct Cure {
    codes: &'static [&'static str],
    kind: Kind,
    text: &'static str,
}

/// Codes of S3, GCS and Azure.
const CURES: [Cure; 7] = [
    Cure {
        codes: &["NoSuchBucket", "ContainerNotFound"],
        kind: Kind::Invalid,
        text: "the bucket is not there: create it, or correct its name in the object store \
               configuration",
    },
    Cure {
        codes: &[
            "AccessDenied",
            "AllAccessDisabled",
            "AuthorizationFailure",
            "AuthorizationPermissionMismatch",
            "InsufficientAccountPermissions",
        ],
        kind: Kind::Denied,
        text: "the credentials are known but may not do this: grant them listing, reading, \
               writing and deleting in this bucket",
    },
    Cure {
        codes: &["SignatureDoesNotMatch", "AuthenticationFailed"],
        kind: Kind::Denied,
        text: "the secret key is not the one of this access key, or something on the way changes \
               requests",
    },
    Cure {
        codes: &["InvalidAccessKeyId", "InvalidToken"],
        kind: Kind::Denied,
        text: "the credentials are not known there: correct them",
    },
    Cure {
        // those that expire are fetched anew
        codes: &["ExpiredToken", "TokenRefreshRequired"],
        kind: Kind::Unavailable,
        text: "the credentials have expired: renew them, unless they are renewed by themselves",
    },
    Cure {
        codes: &["RequestTimeTooSkewed", "RequestExpired"],
        kind: Kind::Denied,
        text: "the clock of this machine is wrong: set it",
    },
    Cure {
        codes: &["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"],
        kind: Kind::Invalid,
        text: "the bucket is in another region: correct region and endpoint in the object store \
               configuration",
    },
];

const UNREACHABLE: &str =
    "nothing answers there: check endpoint and network, and whether it speaks TLS (insecure)";

impl Refusal {
    /// `None` where the client's own words are the best there are.
    pub(super) fn of(error: &object_store::Error) -> Option<Refusal> {
        let text = in_one_line(error).to_string();
        Refusal::of_answer(&text).or_else(|| Refusal::of_silence(&text))
    }

    fn of_answer(text: &str) -> Option<Refusal> {
        let code = between(text, "<Code>", "</Code>")?;
        let message = between(text, "<Message>", "</Message>").unwrap_or_default();
        // Azure adds an id and a time on lines of their own
        let message = message.lines().next().unwrap_or_default();
        let status = between(text, "status code: ", " ").unwrap_or_default();
        let status = status.trim_end_matches(':');
        let what = format!("{status} {code}: {message}");
        let cure = CURES.iter().find(|cure| cure.codes.contains(&code));
        Some(Refusal {
            what: what.trim().trim_end_matches(':').to_owned(),
            cure: cure.map_or("", |cure| cure.text),
            kind: cure.map(|cure| cure.kind),
        })
    }

    fn of_silence(text: &str) -> Option<Refusal> {
        let (before, reason) = text.split_once("client error (Connect)")?;
        // a listing says first that it is one
        let (_, request) = before.rsplit_once("Error performing ")?;
        let url = request.split(' ').nth(1)?;
        // what comes after may hold a signature
        let place = url.split(['?', '#']).next().unwrap_or_default();
        let reason = reason.trim_start_matches([':', ' ']);
        Some(Refusal { what: format!("{place}: {reason}"), cure: UNREACHABLE, kind: None })
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn codes_are_explained_and_documents_are_not_shown() {
        let text = "Error performing GET http://e/b?list-type=2 in 3ms - Server returned non-2xx \
            status code: 404 Not Found: <?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code>\
            <Message>The specified bucket does not exist.</Message><AWSAccessKeyId>id\
            </AWSAccessKeyId></Error>";
        let refusal = Refusal::of(&generic(text)).unwrap();
        assert_eq!(refusal.kind, Some(Kind::Invalid));
        assert_eq!(
            refusal.to_string(),
            "404 NoSuchBucket: The specified bucket does not exist; the bucket is not there: \
             create it, or correct its name in the object store configuration"
        );
        let unknown = "status code: 400 Bad Request: <Error><Code>Odd</Code></Error>";
        let refusal = Refusal::of(&generic(unknown)).unwrap();
        assert_eq!((refusal.to_string().as_str(), refusal.kind), ("400 Odd", None));
        assert!(Refusal::of(&generic("something else")).is_none());
    }

    #[test]
    fn an_endpoint_that_does_not_answer_is_named_without_its_query() {
        let text = "Error performing PUT https://a.blob.core.windows.net/b/x?sig=hush in 3s, after \
            5 retries - HTTP error: error sending request: client error (Connect): tcp connect \
            error: Connection refused (os error 111)";
        let shown = Refusal::of(&generic(text)).unwrap().to_string();
        let start = "https://a.blob.core.windows.net/b/x: tcp connect error: Connection refused";
        assert!(shown.starts_with(start) && !shown.contains("hush"), "{shown}");
        assert!(shown.ends_with("(insecure)"), "{shown}");
        let listing = text.replace(
            "Error performing",
            "Error performing list request: Error \
            performing",
        );
        assert_eq!(Refusal::of(&generic(&listing)).unwrap().to_string(), shown);
    }
}
