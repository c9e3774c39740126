//! The members of a JSON object as they stand, so that what is not known here can be written again
//! byte for byte.

use serde::de::IgnoredAny;

/// More members than any line has.
const MOST: usize = 1000;

/// The names and the texts of the values of a JSON object, in their order.
pub(super) fn members(object: &str) -> Result<Vec<(String, &str)>, String> {
    let mut rest = object.trim().strip_prefix('{').ok_or("it is no object")?.trim_start();
    let mut found: Vec<(String, &str)> = Vec::new();
    if let Some(after) = rest.strip_prefix('}') {
        return ended(after, found);
    }
    loop {
        let (name, after) = value::<String>(rest)?;
        let after = after.trim_start().strip_prefix(':').ok_or("a field has no value")?;
        let text = after.trim_start();
        let (_, after) = value::<IgnoredAny>(text)?;
        if found.len() == MOST {
            return Err(format!("it has more than {MOST} fields"));
        }
        found.push((name, &text[..text.len() - after.len()]));
        let after = after.trim_start();
        match after.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None => return ended(after.strip_prefix('}').ok_or("it has no end")?, found),
        }
    }
}

fn ended<'a>(after: &str, found: Vec<(String, &'a str)>) -> Result<Vec<(String, &'a str)>, String> {
    if after.is_empty() { Ok(found) } else { Err("something follows the object".into()) }
}

/// The first value of a text, and what follows it.
fn value<T: serde::de::DeserializeOwned>(text: &str) -> Result<(T, &str), String> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
    match values.next() {
        Some(Ok(value)) => Ok((value, &text[values.byte_offset()..])),
        Some(Err(e)) => Err(e.to_string()),
        None => Err("a value is missing".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_bytes() {
        let line = r#"{ "a" : 1.50e+3,"b":{"z":1, "a":[ {} ,"}"]},"c\n":null,"d":"\u00e9"}"#;
        let found = members(line).unwrap();
        let expected = [
            ("a", "1.50e+3"),
            ("b", r#"{"z":1, "a":[ {} ,"}"]}"#),
            ("c\n", "null"),
            ("d", r#""\u00e9""#),
        ];
        assert_eq!(found, expected.map(|(name, text)| (name.to_owned(), text)));
        assert_eq!(members(" {} ").unwrap(), []);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "1", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1", "{\"a\":1}x", "{1:2}", "{,}"]
        {
            assert!(members(text).is_err(), "{text}");
        }
    }
}
