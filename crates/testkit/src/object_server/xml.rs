//! The few XML documents of both protocols.

use std::fmt::Write;

use axum::http::{HeaderValue, Response, header};

const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => write!(out, "&#{};", c as u32).expect("a string takes all"),
            c => out.push(c),
        }
    }
    out
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find(';').map(|len| at + len) else { break };
        let entity = &rest[at + 1..end];
        let code = entity.strip_prefix("#x").map(|hex| u32::from_str_radix(hex, 16));
        let code = code.or_else(|| entity.strip_prefix('#').map(str::parse));
        match (entity, code) {
            ("amp", _) => out.push('&'),
            ("lt", _) => out.push('<'),
            ("gt", _) => out.push('>'),
            ("quot", _) => out.push('"'),
            ("apos", _) => out.push('\''),
            (_, Some(Ok(code))) => out.extend(char::from_u32(code)),
            _ => out.push_str(&rest[at..=end]),
        }
        rest = &rest[end + 1..];
    }
    out + rest
}

/// The texts of all elements called `name`, in order, nested or not.
pub(super) fn texts(document: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut texts = Vec::new();
    let mut rest = document;
    while let Some(start) = rest.find(&open) {
        rest = &rest[start + open.len()..];
        let Some(end) = rest.find(&close) else { break };
        texts.push(unescaped(&rest[..end]));
        rest = &rest[end + close.len()..];
    }
    texts
}

pub(super) fn error(code: &str, message: &str) -> String {
    format!("{HEAD}<Error><Code>{code}</Code><Message>{}</Message></Error>", escaped(message))
}

/// A document whose root `name` holds `inner`, which is XML already.
pub(super) fn document(name: &str, inner: &str) -> String {
    format!(r#"{HEAD}<{name} xmlns="{NAMESPACE}">{inner}</{name}>"#)
}

pub(super) fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escaped(text))
}

pub(super) fn mark<B>(response: &mut Response<B>) {
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_as_they_went_in() {
        let key = "a<b>&\"c\"'ü\n";
        let document = document("Delete", &format!("<Object>{}</Object>", element("Key", key)));
        assert_eq!(texts(&document, "Key"), [key]);
        assert_eq!(texts("<Key>&#x41;&apos;&unknown;</Key><Key>", "Key"), ["A'&unknown;"]);
    }
}
