//! Templates of replacements, as Go's `Regexp.Expand` reads them.

use super::Captures;

/// Replaces `$1`, `${1}`, `$name` and `${name}` by what the groups matched, and `$$` by a dollar,
/// as Go does: a name extends as far as letters, digits and underscores do, in braces too, and a
/// dollar before anything else stands for itself. Groups that do not exist, or matched nothing, are
/// empty.
pub fn expand(captures: &Captures<'_>, template: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), template);
    while let Some(at) = rest.iter().position(|b| *b == b'$') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(b"$") {
            out.push(b'$');
            rest = after;
        } else if let Some((name, after)) = group_name(rest) {
            out.extend_from_slice(group(captures, name).unwrap_or_default());
            rest = after;
        } else {
            out.push(b'$');
        }
    }
    out.extend_from_slice(rest);
    out
}

/// The name of a group after a dollar, and what follows.
fn group_name(text: &[u8]) -> Option<(&str, &[u8])> {
    let inner = text.strip_prefix(b"{");
    let valid = inner.unwrap_or(text).utf8_chunks().next()?.valid();
    let in_name = |c: char| c == '_' || c.is_alphabetic() || c.is_numeric();
    let name = &valid[..valid.find(|c| !in_name(c)).unwrap_or(valid.len())];
    let after = &inner.unwrap_or(text)[name.len()..];
    let after = if inner.is_some() { after.strip_prefix(b"}")? } else { after };
    (!name.is_empty()).then_some((name, after))
}

/// What a group matched: by number, unless that has a leading zero, else by name.
fn group<'a>(captures: &Captures<'a>, name: &str) -> Option<&'a [u8]> {
    let number =
        if name.len() > 1 && name.starts_with('0') { None } else { name.parse::<usize>().ok() };
    let found = number.map_or_else(|| captures.name(name), |number| captures.get(number));
    found.map(|group| group.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(
                String::from_utf8(expand(&captures, template.as_bytes())).unwrap(),
                expected,
                "{template}"
            );
        }
    }
}
