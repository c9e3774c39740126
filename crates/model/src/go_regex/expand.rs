//! Templates of replacements, as Go's `Regexp.Expand` reads them.

use std::collections::HashMap;

use super::{Captures, Regex};

/// A replacement, parsed for the groups of a regular expression.
#[derive(Clone, Debug, Default)]
pub struct Template(Vec<TemplatePart>);

#[derive(Clone, Debug)]
enum TemplatePart {
    Text(Vec<u8>),
    Group(usize),
}

impl Template {
    /// Takes `$1`, `${1}`, `$name` and `${name}` for what the groups of `regex` matched, and `$$`
    /// for a dollar, as Go does: a name extends as far as letters, digits and underscores do, in
    /// braces too, and a dollar before anything else stands for itself. Groups that do not exist,
    /// or matched nothing, are empty.
    pub fn new(regex: &Regex, template: &[u8]) -> Template {
        let names: HashMap<&str, usize> = regex
            .capture_names()
            .enumerate()
            .filter_map(|(number, name)| Some((name?, number)))
            .collect();
        let (mut parsed, mut rest) = (Template::default(), template);
        while let Some(at) = rest.iter().position(|b| *b == b'$') {
            parsed.push_text(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(b"$") {
                parsed.push_text(b"$");
                rest = after;
            } else if let Some((name, after)) = group_name(rest) {
                let group = number(name).or_else(|| names.get(name).copied());
                let group = group.filter(|group| *group < regex.captures_len());
                parsed.0.extend(group.map(TemplatePart::Group));
                rest = after;
            } else {
                parsed.push_text(b"$");
            }
        }
        parsed.push_text(rest);
        parsed
    }

    fn push_text(&mut self, more: &[u8]) {
        match self.0.last_mut() {
            Some(TemplatePart::Text(text)) => text.extend_from_slice(more),
            _ if more.is_empty() => {}
            _ => self.0.push(TemplatePart::Text(more.to_vec())),
        }
    }

    fn parts<'a>(&'a self, captures: &'a Captures<'_>) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().map(|part| match part {
            TemplatePart::Text(text) => text,
            TemplatePart::Group(group) => {
                captures.get(*group).map_or(&[][..], |group| group.as_bytes())
            }
        })
    }

    /// How many bytes [`expand`](Template::expand) gives.
    pub fn expanded_len(&self, captures: &Captures<'_>) -> usize {
        self.parts(captures).map(<[u8]>::len).sum()
    }

    /// The template with what the groups matched.
    pub fn expand(&self, captures: &Captures<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.expanded_len(captures));
        self.parts(captures).for_each(|part| out.extend_from_slice(part));
        out
    }
}

/// The name of a group after a dollar, and what follows.
fn group_name(text: &[u8]) -> Option<(&str, &[u8])> {
    let inner = text.strip_prefix(b"{");
    let after_brace = inner.unwrap_or(text);
    let may_be_in_name = |b: &u8| !b.is_ascii() || *b == b'_' || b.is_ascii_alphanumeric();
    let end = after_brace.iter().position(|b| !may_be_in_name(b)).unwrap_or(after_brace.len());
    let valid = after_brace[..end].utf8_chunks().next()?.valid();
    let in_name = |c: char| c == '_' || c.is_alphabetic() || c.is_numeric();
    let name = &valid[..valid.find(|c| !in_name(c)).unwrap_or(valid.len())];
    let after = &after_brace[name.len()..];
    let after = if inner.is_some() { after.strip_prefix(b"}")? } else { after };
    (!name.is_empty()).then_some((name, after))
}

/// The number that a name is, unless it has a leading zero.
fn number(name: &str) -> Option<usize> {
    if name.len() > 1 && name.starts_with('0') { None } else { name.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock, SystemClock};

    #[test]
    fn long_templates_are_read_once() {
        let clock = SystemClock::new(|_| Box::pin(std::future::pending()));
        let regex = super::super::compile("(.)").unwrap();
        let captures = regex.captures(b"a").unwrap();
        let times = 500_000;
        for (part, expanded) in [("$1", "a"), ("$-", "$-"), ("$$", "$"), ("${é", "${é")] {
            let began = clock.monotonic();
            let template = Template::new(&regex, part.repeat(times).as_bytes());
            let text = template.expand(&captures);
            let took = clock.monotonic() - began;
            assert_eq!(text.len(), template.expanded_len(&captures));
            assert!(text == expanded.repeat(times).as_bytes(), "{part}");
            assert!(took.as_secs() < 2, "{part}: {took:?}");
        }
    }

    #[test]
    fn names_reach_as_far_as_in_go() {
        let regex = super::super::compile("(?P<first>.)(.)").unwrap();
        let captures = regex.captures(b"ab").unwrap();
        for (template, expected) in [
            ("$1-${2}$1", "a-ba"),
            ("$first,${first}x,$firstx", "a,ax,"),
            ("$2x$02$9", ""),
            ("$$1$", "$1$"),
            ("${1", "${1"),
            ("${}$-", "${}$-"),
        ] {
            let expanded = Template::new(&regex, template.as_bytes()).expand(&captures);
            assert_eq!(String::from_utf8(expanded).unwrap(), expected, "{template}");
        }
    }
}
