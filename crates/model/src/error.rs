//! How errors are made and shown, the same in every crate.
//!
//! The `kind()` of a crate's `Error` says what a caller can do about it. `Display` prints one
//! layer: the object and what was attempted. The cause is behind `source()` and never part of the
//! message. Where an error leaves the program, as a log line, a status or a body, it is printed
//! with its causes by [`in_one_line`].
//!
//! A crate whose cases carry values of their own keeps them in a private enum. Where kind and text
//! are all that tells errors apart, [`layered_error!`](crate::layered_error) makes the type.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// What lies below an error. Shared, so that errors can be cloned.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Prints an error and its causes, outermost first: `listen on ":80": permission denied`. Errors
/// of libraries that print their cause themselves print it once.
pub fn in_one_line<'a>(error: &'a (dyn Error + 'static)) -> InOneLine<'a> {
    InOneLine(error)
}

/// See [`in_one_line`].
#[derive(Clone, Copy, Debug)]
pub struct InOneLine<'a>(&'a (dyn Error + 'static));

impl fmt::Display for InOneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts: Vec<String> = Vec::new();
        for text in layers(self.0).map(ToString::to_string) {
            match texts.last_mut() {
                Some(above) if above.contains(&text) => {}
                // `block=X` above `block=X series Y`
                Some(above) if text.starts_with(above.as_str()) => *above = text,
                _ => texts.push(text),
            }
        }
        f.write_str(&texts.join(": "))
    }
}

/// The error and what lies below it.
fn layers<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        error.source()
    })
}

/// The first message below this error, or its own, that contains the message of its cause: the
/// mistake that tests look for.
pub fn repeated_cause(error: &(dyn Error + 'static)) -> Option<String> {
    let repeats = |error: &&(dyn Error + 'static)| {
        let message = error.to_string();
        error.source().is_some_and(|cause| message.contains(&cause.to_string()))
    };
    layers(error).find(repeats).map(ToString::to_string)
}

/// One layer of an error: its kind, and what was attempted or, where another crate's error says
/// that itself, that error.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Layer<K> {
    pub kind: K,
    pub text: Text,
}

#[doc(hidden)]
#[derive(Clone, Debug)]
pub enum Text {
    Own { message: String, cause: Option<Cause> },
    OfCause(Cause),
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Text::Own { message, .. } => f.write_str(message),
            Text::OfCause(error) => error.fmt(f),
        }
    }
}

impl Text {
    pub fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Text::Own { cause, .. } => cause.as_ref().map(|cause| &**cause as _),
            Text::OfCause(error) => error.source(),
        }
    }
}

/// Makes a crate's error type of its kinds: `layered_error! { pub struct Error(Kind); }`. Made by
/// `new`, or by `caused` and `passed` where there is an error below.
#[macro_export]
macro_rules! layered_error {
    ($(#[$attribute:meta])* pub struct $name:ident($kind:ty);) => {
        $(#[$attribute])*
        #[derive(Clone, Debug)]
        pub struct $name($crate::error::Layer<$kind>);

        impl $name {
            pub fn new(kind: $kind, message: impl Into<String>) -> $name {
                let text = $crate::error::Text::Own { message: message.into(), cause: None };
                $name($crate::error::Layer { kind, text })
            }

            /// `attempt` failed, and `cause` is why; the message does not name the cause.
            pub fn caused(
                kind: $kind,
                attempt: impl Into<String>,
                cause: impl ::std::error::Error + Send + Sync + 'static,
            ) -> $name {
                let cause = Some(::std::sync::Arc::new(cause) as $crate::error::Cause);
                let text = $crate::error::Text::Own { message: attempt.into(), cause };
                $name($crate::error::Layer { kind, text })
            }

            /// An error of another crate that says all there is to say.
            pub fn passed(
                kind: $kind,
                error: impl ::std::error::Error + Send + Sync + 'static,
            ) -> $name {
                let text = $crate::error::Text::OfCause(::std::sync::Arc::new(error));
                $name($crate::error::Layer { kind, text })
            }

            pub fn kind(&self) -> $kind {
                self.0.kind
            }

            /// The same kind, as the cause of the failure of `attempt`.
            #[must_use]
            pub fn context(self, attempt: impl ::std::fmt::Display) -> $name {
                $name::caused(self.kind(), attempt.to_string(), self)
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(&self.0.text, f)
            }
        }

        impl ::std::error::Error for $name {
            fn source(&self) -> Option<&(dyn ::std::error::Error + 'static)> {
                self.0.text.source()
            }
        }
    };
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macro makes public types")]
mod tests {
    use std::io;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Kind {
        Denied,
        Invalid,
    }

    crate::layered_error! {
        pub struct Layered(Kind);
    }

    fn denied() -> Layered {
        let cause = io::Error::from(io::ErrorKind::PermissionDenied);
        Layered::caused(Kind::Denied, "reading wal/0001", cause)
    }

    #[test]
    fn every_layer_is_printed_once() {
        let error = denied().context("shipping block 7");
        assert_eq!(error.to_string(), "shipping block 7");
        assert_eq!(error.kind(), Kind::Denied);
        let line = "shipping block 7: reading wal/0001: permission denied";
        assert_eq!(in_one_line(&error).to_string(), line);
        assert_eq!(repeated_cause(&error), None);
    }

    #[test]
    fn an_object_that_is_named_twice_is_printed_once() {
        let error = Layered::new(Kind::Invalid, "block=7 series {}").context("block=7");
        assert_eq!(
            in_one_line(&error.context("compacting")).to_string(),
            "compacting: block=7 series {}"
        );
    }

    #[test]
    fn an_error_that_is_passed_on_is_no_layer_of_its_own() {
        let error = Layered::passed(Kind::Invalid, denied());
        assert_eq!(error.to_string(), "reading wal/0001");
        assert_eq!(error.kind(), Kind::Invalid);
        assert_eq!(in_one_line(&error).to_string(), "reading wal/0001: permission denied");
    }

    #[test]
    fn what_a_library_prints_itself_is_not_repeated() {
        #[derive(Debug)]
        struct Chatty(io::Error);
        impl fmt::Display for Chatty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "store failed: {}", self.0)
            }
        }
        impl Error for Chatty {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = Chatty(io::Error::other("no space"));
        assert_eq!(in_one_line(&error).to_string(), "store failed: no space");
        assert_eq!(repeated_cause(&error).as_deref(), Some("store failed: no space"));
    }
}
