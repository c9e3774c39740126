//! Regular expressions of Go's `regexp/syntax` (RE2 with Perl extensions), which PromQL and StoreAPI matchers use,
//! rewritten for the `regex` crate. Refused ones are refused with Go's texts.
//!
//! What differs between the two: braces that are no repeat count are literal in Go; `\d`, `\w`, `\s` and `\b` know
//! ASCII only; `\Q…\E`; `\C` and back references are errors; `&&`, `--` and `[` within brackets are plain characters;
//! stacked repetitions such as `a**` are errors.

/// The crate knows the same ones, and writes them and their negation alike.
const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

type Result<T> = std::result::Result<T, String>;

/// The same expression for the `regex` crate.
///
/// # Errors
/// Go's text without its prefix, such as ``missing closing ): `(` ``.
pub fn translate(pattern: &str) -> Result<String> {
    let mut t = Translator { pattern, pos: 0, out: String::with_capacity(pattern.len() + 8), flags: String::new() };
    t.run()?;
    Ok(t.out)
}

struct Translator<'a> {
    pattern: &'a str,
    pos: usize,
    out: String,
    /// Flags such as `(?i)` that are not written yet: Go lets a repetition behind them repeat what stands before them.
    flags: String,
}

impl<'a> Translator<'a> {
    fn rest(&self) -> &'a str {
        &self.pattern[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.pos += if found { c.len_utf8() } else { 0 };
        found
    }

    /// An error about the text from `start` to where reading stopped.
    fn fail<T>(&self, what: &str, start: usize) -> Result<T> {
        Err(format!("{what}: `{}`", &self.pattern[start..self.pos]))
    }

    fn run(&mut self) -> Result<()> {
        let mut open = 0usize;
        // Whether something stands to the left that can be repeated, and where a repetition right to the left began.
        let (mut repeatable, mut last_repeat) = (false, None);
        while let Some(c) = self.peek() {
            let start = self.pos;
            let after_repeat = last_repeat.take();
            if !matches!(c, '*' | '+' | '?' | '{') && !self.rest().starts_with("(?") {
                self.write_flags();
            }
            match c {
                '(' if self.rest().starts_with("(?") => {
                    if self.group_flags()? {
                        open += 1;
                        repeatable = false;
                    }
                }
                '(' => {
                    self.copy();
                    open += 1;
                    repeatable = false;
                }
                '|' => {
                    self.copy();
                    repeatable = false;
                }
                ')' => {
                    open = open.checked_sub(1).ok_or_else(|| format!("unexpected ): `{}`", self.pattern))?;
                    self.copy();
                    repeatable = true;
                }
                '*' | '+' | '?' => {
                    self.copy();
                    last_repeat = Some(self.repetition(start, after_repeat, repeatable)?);
                }
                '{' if self.repeat_count()? => {
                    last_repeat = Some(self.repetition(start, after_repeat, repeatable)?);
                }
                '[' => {
                    self.class()?;
                    repeatable = true;
                }
                '\\' => {
                    self.escape_sequence()?;
                    repeatable = true;
                }
                '^' | '$' | '.' => {
                    self.copy();
                    repeatable = true;
                }
                c => {
                    self.write_flags();
                    self.bump();
                    self.literal(c);
                    repeatable = true;
                }
            }
        }
        if open > 0 { Err(format!("missing closing ): `{}`", self.pattern)) } else { Ok(()) }
    }

    fn write_flags(&mut self) {
        self.out.push_str(&self.flags);
        self.flags.clear();
    }

    fn copy(&mut self) {
        let c = self.bump();
        self.out.extend(c);
    }

    fn literal(&mut self, c: char) {
        if c.is_ascii() && !c.is_ascii_alphanumeric() {
            self.out.push_str(&format!("\\x{:02x}", u32::from(c)));
        } else {
            self.out.push(c);
        }
    }

    /// Ends a repetition that began at `start` and is copied but for a lazy mark; gives back where it began.
    fn repetition(&mut self, start: usize, after_repeat: Option<usize>, repeatable: bool) -> Result<usize> {
        if self.peek() == Some('?') {
            self.copy();
        }
        match after_repeat {
            Some(first) => self.fail("invalid nested repetition operator", first),
            None if !repeatable => self.fail("missing argument to repetition operator", start),
            None => Ok(start),
        }
    }

    /// Copies `{n}`, `{n,}` or `{n,m}`; anything else leaves the brace to be literal.
    fn repeat_count(&mut self) -> Result<bool> {
        let start = self.pos;
        let Some((inner, _)) = self.rest()[1..].split_once('}') else { return Ok(false) };
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            (plain && (digits == "0" || !digits.starts_with('0'))).then(|| digits.parse().unwrap_or(u32::MAX))
        };
        let (min, max) = match inner.split_once(',') {
            None => (number(inner), number(inner)),
            Some((min, "")) => (number(min), number(min)),
            Some((min, max)) => (number(min), number(max)),
        };
        let (Some(min), Some(max)) = (min, max) else { return Ok(false) };
        self.pos += inner.len() + 2;
        if min > 1000 || max > 1000 || min > max {
            return self.fail("invalid repeat count", start);
        }
        self.out.push_str(&self.pattern[start..self.pos]);
        Ok(true)
    }

    /// `(?i)`, `(?i:`, `(?P<name>` and `(?<name>`; whether a group was opened.
    fn group_flags(&mut self) -> Result<bool> {
        let start = self.pos;
        let named = |prefix: &&str| self.rest().starts_with(prefix) && self.rest().len() > prefix.len();
        let named = ["(?P<", "(?<"].into_iter().find(named);
        if let Some(prefix) = named {
            let Some(end) = self.rest().find('>') else {
                self.pos = self.pattern.len();
                return self.fail("invalid named capture", start);
            };
            let name = &self.rest()[prefix.len()..end];
            self.pos += end + 1;
            if name.is_empty() || !name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) {
                return self.fail("invalid named capture", start);
            }
            self.write_flags();
            self.out.push_str(&self.pattern[start..self.pos]);
            return Ok(true);
        }
        self.pos += 2;
        let (mut negated, mut flags) = (false, false);
        loop {
            match self.bump() {
                Some('i' | 'm' | 's' | 'U') => flags = true,
                Some('-') if !negated => (negated, flags) = (true, false),
                Some(':') if !negated || flags => {
                    self.write_flags();
                    self.out.push_str(&self.pattern[start..self.pos]);
                    return Ok(true);
                }
                Some(')') if !negated || flags => {
                    // `(?)` sets nothing, and the crate does not know it.
                    if self.pos - start > 3 {
                        self.flags.push_str(&self.pattern[start..self.pos]);
                    }
                    return Ok(false);
                }
                _ => return self.fail("invalid or unsupported Perl syntax", start),
            }
        }
    }

    /// A backslash and what it escapes, outside of brackets.
    fn escape_sequence(&mut self) -> Result<()> {
        let start = self.pos;
        let rest = self.rest();
        if let Some(quoted) = rest.strip_prefix("\\Q") {
            let end = quoted.find("\\E");
            quoted[..end.unwrap_or(quoted.len())].chars().for_each(|c| self.literal(c));
            self.pos = end.map_or(self.pattern.len(), |end| start + 2 + end + 2);
            return Ok(());
        }
        let simple = match rest.chars().nth(1) {
            Some('A') => "\\A",
            Some('z') => "\\z",
            Some('b') => "(?-u:\\b)",
            Some('B') => "(?-u:\\B)",
            Some('C') => {
                self.pos += 2;
                return self.fail("invalid escape sequence", start);
            }
            _ => {
                if let Some(class) = self.named_class(false)? {
                    self.out.push_str(&class);
                } else {
                    let c = self.escaped_char()?;
                    self.literal(c);
                }
                return Ok(());
            }
        };
        self.out.push_str(simple);
        self.pos += 2;
        Ok(())
    }

    /// `\d`, `\pL` and their like, as a class of its own or as part of one.
    fn named_class(&mut self, inside: bool) -> Result<Option<String>> {
        let start = self.pos;
        let Some(letter) = self.rest().chars().nth(1).filter(|_| self.rest().starts_with('\\')) else {
            return Ok(None);
        };
        let (members, negated) = match letter {
            'd' | 'D' => ("0-9", letter == 'D'),
            's' | 'S' => ("\\t\\n\\x0c\\r\\x20", letter == 'S'),
            'w' | 'W' => ("0-9A-Za-z_", letter == 'W'),
            'p' | 'P' => return self.unicode_class().map(Some),
            _ => return Ok(None),
        };
        self.pos = start + 2;
        Ok(Some(match (inside, negated) {
            (true, false) => members.to_owned(),
            (_, true) => format!("[^{members}]"),
            (false, false) => format!("[{members}]"),
        }))
    }

    fn unicode_class(&mut self) -> Result<String> {
        let start = self.pos;
        let mut negated = self.rest().starts_with("\\P");
        self.pos += 2;
        let mut name = match self.bump() {
            Some('{') => {
                let Some(end) = self.rest().find('}') else {
                    self.pos = self.pattern.len();
                    return self.fail("invalid character class range", start);
                };
                let name = &self.rest()[..end];
                self.pos += end + 1;
                name.to_owned()
            }
            other => other.map(String::from).unwrap_or_default(),
        };
        if let Some(positive) = name.strip_prefix('^') {
            (negated, name) = (!negated, positive.to_owned());
        }
        let class = format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' });
        // Go knows categories and scripts by their plain names only.
        if !name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_') || regex::Regex::new(&class).is_err() {
            return self.fail("invalid character class range", start);
        }
        Ok(class)
    }

    /// The character that a backslash and what follows stand for.
    fn escaped_char(&mut self) -> Result<char> {
        let start = self.pos;
        self.bump();
        let Some(c) = self.bump() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        let code = match c {
            '0'..='7' if c == '0' || matches!(self.peek(), Some('0'..='7')) => self.digits(c.to_digit(8), 8, 2),
            'x' => self.hexadecimal(),
            'a' => Some(7),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            'v' => Some(11),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
            _ => None,
        };
        match code.and_then(char::from_u32) {
            Some(c) => Ok(c),
            None => self.fail("invalid escape sequence", start),
        }
    }

    /// `{1F600}` or two digits. Reads the character that is none, which the error then shows.
    fn hexadecimal(&mut self) -> Option<u32> {
        let digit = |c: Option<char>| c.and_then(|c| c.to_digit(16));
        if !self.eat('{') {
            let (high, low) = (self.bump(), self.bump());
            return Some(digit(high)? * 16 + digit(low)?);
        }
        let mut code = digit(self.bump())?;
        while code <= u32::from(char::MAX) {
            match self.bump() {
                Some('}') => return Some(code),
                c => code = code * 16 + digit(c)?,
            }
        }
        None
    }

    /// At most `most` digits after the value so far; `None` if there is none at all.
    fn digits(&mut self, mut value: Option<u32>, radix: u32, most: usize) -> Option<u32> {
        for _ in 0..most {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(radix)) else { break };
            self.bump();
            value = value.unwrap_or(0).checked_mul(radix).map(|v| v + digit);
        }
        value
    }

    fn class(&mut self) -> Result<()> {
        let start = self.pos;
        self.copy();
        if self.peek() == Some('^') {
            self.copy();
        }
        let mut first = true;
        while first || self.peek() != Some(']') {
            first = false;
            if self.rest().starts_with("[:")
                && let Some(end) = self.rest().find(":]")
            {
                let at = self.pos;
                self.pos += end + 2;
                let class = &self.pattern[at..self.pos];
                let name = class[2..class.len() - 2].trim_start_matches('^');
                if !POSIX_CLASSES.contains(&name) || class[2..].starts_with("^^") {
                    return self.fail("invalid character class range", at);
                }
                self.out.push_str(class);
                continue;
            }
            if let Some(class) = self.named_class(true)? {
                self.out.push_str(&class);
                continue;
            }
            let at = self.pos;
            let low = self.class_char(start)?;
            self.literal(low);
            if self.rest().starts_with('-') && self.rest().len() >= 2 && !self.rest().starts_with("-]") {
                self.copy();
                let high = self.class_char(start)?;
                if high < low {
                    return self.fail("invalid character class range", at);
                }
                self.literal(high);
            }
        }
        self.copy();
        Ok(())
    }

    fn class_char(&mut self, class_start: usize) -> Result<char> {
        match self.peek() {
            None => {
                self.pos = self.pattern.len();
                self.fail("missing closing ]", class_start)
            }
            Some('\\') => self.escaped_char(),
            Some(c) => {
                self.bump();
                Ok(c)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        regex::Regex::new(&format!("^(?s:{})$", translate(pattern).unwrap())).unwrap().is_match(text)
    }

    #[test]
    fn what_go_accepts_means_the_same() {
        for (pattern, text) in [
            ("a{,5}", "a{,5}"),
            ("{a=b}", "{a=b}"),
            ("a{2,3}?", "aaa"),
            ("a{02}", "a{02}"),
            (r"\Qa.b\E+", "a.bb"),
            (r"[[:alpha:]\d&&~~-]+", "a1&~-"),
            (r"[]a]+", "]a"),
            ("[[a]+", "[a"),
            ("[^[:digit:]]", "x"),
            (r"\x{1F600}\x41\101\.", "😀AA."),
            (r"\p{Greek}\pL\P{^L}", "αab"),
            ("(?i)ABC(?-i:d)()", "abcd"),
            ("(?P<n>a)(?<m>b)|", "ab"),
            (r"\bfoo\b.bar", "foo\nbar"),
            ("b(?i)+c", "bbC"),
            ("a|", ""),
        ] {
            assert!(matches(pattern, text), "{pattern} on {text}");
        }
    }

    #[test]
    fn perl_classes_are_ascii() {
        for (pattern, text) in [(r"\d", "٣"), (r"\w", "é"), (r"\s", "\u{a0}"), (r"[^\D]", "٣")] {
            assert!(!matches(pattern, text), "{pattern} on {text}");
        }
        assert!(matches(r"\D\W\S", "ééé"));
    }

    #[test]
    fn what_go_refuses_is_refused_with_its_text() {
        for (pattern, message) in [
            ("(", "missing closing ): `(`"),
            ("a)?b", "unexpected ): `a)?b`"),
            ("x[0-9", "missing closing ]: `[0-9`"),
            ("+a", "missing argument to repetition operator: `+`"),
            ("a|*?", "missing argument to repetition operator: `*?`"),
            (".*?+ ", "invalid nested repetition operator: `*?+`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}", "invalid repeat count: `{3,2}`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            (r"\p{Nope}", r"invalid character class range: `\p{Nope}`"),
            ("(?c)", "invalid or unsupported Perl syntax: `(?c`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?P<a", "invalid named capture: `(?P<a`"),
            (r"\1", r"invalid escape sequence: `\1`"),
            (r"\y", r"invalid escape sequence: `\y`"),
            ("a\\", "trailing backslash at end of expression: ``"),
        ] {
            assert_eq!(translate(pattern).unwrap_err(), message);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_panics(pattern in r"[ab(){}\[\]*+?|^$.\\:<>PQEpxz0-9,é-]{0,12}") {
            let _ = translate(&pattern);
        }
    }
}
