//! Regular expressions of Go's `regexp/syntax` (RE2 with Perl extensions), which PromQL and
//! StoreAPI matchers use, rewritten for the `regex` crate. Refused ones are refused with Go's
//! texts.
//!
//! What differs between the two: braces that are not a repeat count are literal in Go; `\d`, `\w`,
//! `\s` and `\b` know ASCII only; `\Q…\E`; `\C` and back references are errors; `&&`, `--` and `[`
//! within brackets are plain characters; stacked repetitions such as `a**` are errors, and so are
//! repeat counts whose product is above 1000; flags may be given twice, names of groups too and
//! with a digit first; `\p` knows categories and scripts by their plain names.

use std::collections::HashSet;

use regex::bytes::RegexBuilder;
pub use regex::bytes::{Captures, Regex};

pub use self::expand::Template;

mod expand;
mod unicode;

/// A compiled expression takes at most this much memory.
const MAX_BYTES: usize = 32 << 20;

/// How deep groups, repetitions and the like may nest. Go allows 1000; compiling those takes more
/// stack than a thread of a runtime has.
const MAX_DEPTH: u32 = 250;

/// What [`cost`] counts for the smallest expression, ...
const SMALLEST: u64 = 200;
/// ... for `.` and for what is not in a class, ...
const ANY: u64 = 8;
/// ... for classes of Unicode, which have hundreds of ranges, ...
const UNICODE: u64 = 600;
/// ... all multiplied by this if letters fold.
const FOLDING: u64 = 10;

/// The largest repeat count, and product of nested ones.
const MAX_REPEAT: u32 = 1000;

/// The crate knows the same ones, and writes them and their negation alike.
const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

type Result<T> = std::result::Result<T, String>;

/// An expression that must match the whole text; `.` matches newlines.
///
/// # Errors
/// Go's text where Go refuses the expression too.
pub fn compile_anchored(pattern: &str) -> Result<Regex> {
    build(&format!("^(?:{})$", translate(pattern)?), pattern)
}

/// Compiles an expression without anchors.
///
/// # Errors
/// As for [`compile_anchored`].
pub fn compile(pattern: &str) -> Result<Regex> {
    build(&translate(pattern)?, pattern)
}

/// About how many microseconds compiling takes, estimated high rather than low; 0 for what is
/// refused. What is compiled takes at most some 250 bytes for each of them.
pub fn cost(pattern: &str) -> u64 {
    let mut translator = Translator { pattern, ..Translator::default() };
    if translator.run().is_err() {
        return 0;
    }
    let folds = if translator.folds { FOLDING } else { 1 };
    let once = (pattern.len() as u64).saturating_add(translator.wide).saturating_mul(folds);
    once.saturating_mul(u64::from(translator.group.repeats)).saturating_add(SMALLEST)
}

/// The most bytes over which an expression is run at once. Where its states do not fit into the
/// memory of a match, running it over a byte takes up to half a nanosecond for each of its
/// [`cost`]: a tenth of a second in all. Texts of four KiB are taken whatever it costs.
pub fn longest_text(pattern: &str) -> usize {
    const COST_OF_ALL_BYTES: u64 = 1 << 27;
    const ALWAYS: u64 = 4 << 10;
    let longest = (COST_OF_ALL_BYTES / cost(pattern).max(1)).max(ALWAYS);
    usize::try_from(longest).unwrap_or(usize::MAX)
}

fn build(translated: &str, pattern: &str) -> Result<Regex> {
    let mut builder = RegexBuilder::new(translated);
    builder.dot_matches_new_line(true).size_limit(MAX_BYTES).nest_limit(MAX_DEPTH);
    builder.build().map_err(|e| {
        // The crate's text draws the place over several lines; its last says what is wrong.
        let text = e.to_string();
        let last = text.lines().last().unwrap_or_default();
        let what = match e {
            regex::Error::CompiledTooBig(_) => "expression too large",
            _ if last.contains("maximum number of nested") => "expression nests too deeply",
            _ => last,
        };
        format!("{what}: `{pattern}`")
    })
}

/// The same expression for the `regex` crate.
///
/// # Errors
/// Go's text without its prefix, such as ``missing closing ): `(` ``.
pub fn translate(pattern: &str) -> Result<String> {
    let mut translator = Translator {
        pattern,
        out: String::with_capacity(pattern.len() + 8),
        ..Translator::default()
    };
    translator.run()?;
    Ok(translator.out)
}

#[derive(Default)]
struct Translator<'a> {
    pattern: &'a str,
    pos: usize,
    out: String,
    /// What is known about every group around the place being read.
    open: Vec<RepeatGroup>,
    /// What is known about the outermost level, or the innermost group.
    group: RepeatGroup,
    names: HashSet<&'a str>,
    /// Where the search for the end of a POSIX class failed: there is none after that.
    no_class_end: bool,
    /// Flags such as `(?i)` that are not written yet: in Go, a repetition after them repeats what
    /// is before them.
    flags: String,
    /// What wide classes cost besides their text, each taken once.
    wide: u64,
    /// Whether letters fold anywhere.
    folds: bool,
}

/// The largest products of nested repeat counts.
#[derive(Clone, Copy)]
struct RepeatGroup {
    /// The largest product in everything that was read.
    repeats: u32,
    /// The largest product in what was read last and may be repeated.
    last: u32,
}

impl Default for RepeatGroup {
    fn default() -> RepeatGroup {
        RepeatGroup { repeats: 1, last: 1 }
    }
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
        // Whether there is something to the left that can be repeated, and where a repetition
        // directly to the left began.
        let (mut repeatable, mut last_repeat) = (false, None);
        while let Some(c) = self.peek() {
            let start = self.pos;
            let after_repeat = last_repeat.take();
            if !matches!(c, '*' | '+' | '?' | '{') && !self.rest().starts_with("(?") {
                self.write_flags();
            }
            let mut count = None;
            if c == '{' {
                count = self.repeat_count()?;
            } else if matches!(c, '*' | '+' | '?') {
                self.copy();
                count = Some(1);
            }
            if let Some(count) = count {
                last_repeat = Some(self.repetition(start, after_repeat, repeatable, count)?);
                continue;
            }
            repeatable = self.item(c, repeatable)?;
        }
        if self.open.is_empty() {
            Ok(())
        } else {
            Err(format!("missing closing ): `{}`", self.pattern))
        }
    }

    /// Reads anything except a repetition; returns whether one may follow.
    fn item(&mut self, c: char, repeatable: bool) -> Result<bool> {
        match c {
            '(' if self.rest().starts_with("(?") => {
                if !self.group_flags()? {
                    return Ok(repeatable);
                }
                return self.open_group();
            }
            '(' => {
                self.copy();
                return self.open_group();
            }
            '|' => {
                self.copy();
                return Ok(false);
            }
            ')' => {
                let Some(outer) = self.open.pop() else {
                    return Err(format!("unexpected ): `{}`", self.pattern));
                };
                let last = self.group.repeats;
                self.group = RepeatGroup { repeats: outer.repeats.max(last), last };
                self.copy();
                return Ok(true);
            }
            '[' => self.class()?,
            '\\' if self.rest().starts_with("\\Q") => {
                if !self.quoted() {
                    return Ok(repeatable);
                }
            }
            '\\' => self.escape_sequence()?,
            '^' | '$' | '.' => {
                self.wide += ANY;
                self.copy();
            }
            c => {
                self.write_flags();
                self.bump();
                self.literal(c);
            }
        }
        self.group.last = 1;
        Ok(true)
    }

    fn open_group(&mut self) -> Result<bool> {
        self.open.push(std::mem::take(&mut self.group));
        Ok(false)
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

    /// Ends a repetition that began at `start` and is copied except for a lazy mark; returns where
    /// it began.
    fn repetition(
        &mut self,
        start: usize,
        after: Option<usize>,
        repeatable: bool,
        count: u32,
    ) -> Result<usize> {
        if self.peek() == Some('?') {
            self.copy();
        }
        if let Some(first) = after {
            return self.fail("invalid nested repetition operator", first);
        }
        if !repeatable {
            return self.fail("missing argument to repetition operator", start);
        }
        // none at all costs nothing
        let last = if count == 0 { 1 } else { self.group.last.saturating_mul(count) };
        if last > MAX_REPEAT {
            return self.fail("invalid repeat count", start);
        }
        self.group = RepeatGroup { repeats: self.group.repeats.max(last), last };
        Ok(start)
    }

    /// Copies `{n}`, `{n,}` or `{n,m}` and returns the larger number; with anything else the brace
    /// is literal.
    fn repeat_count(&mut self) -> Result<Option<u32>> {
        let start = self.pos;
        let inside = |b: &u8| b.is_ascii_digit() || *b == b',';
        let length = self.rest().bytes().skip(1).take_while(inside).count();
        let inner = &self.rest()[1..][..length];
        if self.rest().as_bytes().get(1 + length) != Some(&b'}') {
            return Ok(None);
        }
        let number = |digits: &str| {
            let plain = digits == "0"
                || !digits.is_empty() && !digits.starts_with('0') && !digits.contains(',');
            plain.then(|| digits.parse().unwrap_or(u32::MAX))
        };
        let (min, max) = match inner.split_once(',') {
            None => (number(inner), number(inner)),
            Some((min, "")) => (number(min), number(min)),
            Some((min, max)) => (number(min), number(max)),
        };
        let (Some(min), Some(max)) = (min, max) else { return Ok(None) };
        self.pos += length + 2;
        if min > MAX_REPEAT || max > MAX_REPEAT || min > max {
            return self.fail("invalid repeat count", start);
        }
        self.out.push_str(&self.pattern[start..self.pos]);
        Ok(Some(max))
    }

    /// `(?i)`, `(?i:`, `(?P<name>` and `(?<name>`; returns whether a group was opened.
    fn group_flags(&mut self) -> Result<bool> {
        let start = self.pos;
        let named =
            |prefix: &&str| self.rest().starts_with(prefix) && self.rest().len() > prefix.len();
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
            // What the crate does not accept as a name can still be referred to by number.
            if name.starts_with(|c: char| c.is_ascii_digit()) || !self.names.insert(name) {
                self.out.push('(');
            } else {
                self.out.push_str(&self.pattern[start..self.pos]);
            }
            return Ok(true);
        }
        self.pos += 2;
        self.plain_flags(start)
    }

    /// Flags after `(?`, of which the last counts where one is given twice; returns whether a group
    /// was opened.
    fn plain_flags(&mut self, start: usize) -> Result<bool> {
        let (mut on, mut off) = (String::new(), String::new());
        let (mut negated, mut any) = (false, false);
        let group = loop {
            match self.bump() {
                Some(flag @ ('i' | 'm' | 's' | 'U')) => {
                    on.retain(|other| other != flag);
                    off.retain(|other| other != flag);
                    if negated {
                        off.push(flag)
                    } else {
                        on.push(flag)
                    }
                    any = true;
                }
                Some('-') if !negated => (negated, any) = (true, false),
                Some(end @ (':' | ')')) if !negated || any => break end == ':',
                _ => return self.fail("invalid or unsupported Perl syntax", start),
            }
        };
        self.folds |= on.contains('i');
        let flags = if off.is_empty() { on } else { format!("{on}-{off}") };
        if group {
            self.write_flags();
            self.out.push_str(&format!("(?{flags}:"));
        } else if !flags.is_empty() {
            // `(?)` sets nothing, and the crate does not know it.
            self.flags.push_str(&format!("(?{flags})"));
        }
        Ok(group)
    }

    /// `\Q…\E`, or to the end; returns whether there was anything in it.
    fn quoted(&mut self) -> bool {
        let quoted = &self.rest()[2..];
        let end = quoted.find("\\E");
        quoted[..end.unwrap_or(quoted.len())].chars().for_each(|c| self.literal(c));
        self.pos = end.map_or(self.pattern.len(), |end| self.pos + 2 + end + 2);
        !quoted.is_empty() && end != Some(0)
    }

    /// A backslash and what it escapes, outside brackets.
    fn escape_sequence(&mut self) -> Result<()> {
        let start = self.pos;
        let simple = match self.rest().chars().nth(1) {
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
        let Some(letter) = self.rest().chars().nth(1).filter(|_| self.rest().starts_with('\\'))
        else {
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
        self.wide += if negated { ANY } else { 0 };
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
        self.wide += UNICODE;
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
        if !unicode::is_class(&name) {
            return self.fail("invalid character class range", start);
        }
        Ok(match (name.as_str(), negated) {
            // surrogates, which no text has
            ("Cs", false) => "[a&&b]".to_owned(),
            ("Cs", true) => "\\p{Any}".to_owned(),
            (_, false) => format!("\\p{{{name}}}"),
            (_, true) => format!("\\P{{{name}}}"),
        })
    }

    /// The character that a backslash and what follows stand for.
    fn escaped_char(&mut self) -> Result<char> {
        let start = self.pos;
        self.bump();
        let Some(c) = self.bump() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        let code = match c {
            '0'..='7' if c == '0' || matches!(self.peek(), Some('0'..='7')) => {
                self.digits(c.to_digit(8), 8, 2)
            }
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

    /// `{1F600}` or two digits. Also reads the first character that is not a digit, which the error
    /// then shows.
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
            self.wide += ANY;
            self.copy();
        }
        let mut first = true;
        while first || self.peek() != Some(']') {
            first = false;
            if let Some(end) = self.posix_class_end() {
                let at = self.pos;
                self.pos += end + 2;
                let class = &self.pattern[at..self.pos];
                self.wide += if class.contains('^') { ANY } else { 0 };
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
            if self.rest().starts_with('-')
                && self.rest().len() >= 2
                && !self.rest().starts_with("-]")
            {
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

    /// Where `[:name:]` ends, if one begins here.
    fn posix_class_end(&mut self) -> Option<usize> {
        if self.no_class_end || !self.rest().starts_with("[:") {
            return None;
        }
        let end = self.rest()[2..].find(":]");
        self.no_class_end = end.is_none();
        end.map(|end| end + 2)
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
mod tests;
