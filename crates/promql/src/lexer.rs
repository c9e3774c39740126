//! Turns text into tokens. What a character means depends on whether braces or brackets are open,
//! so the lexer keeps that state; it reads only as far as the parser asks.

use crate::ast::{AggregateOp, BinaryOp, Span};
use crate::quote::{describe_char, quote, quote_char};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Eof,
    Identifier,
    /// An identifier with a colon.
    MetricIdentifier,
    Number,
    Duration,
    String,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    /// A single `=`.
    Equal,
    /// `=~` within braces.
    RegexMatch,
    /// `!~` within braces.
    RegexNoMatch,
    At,
    Operator(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyword {
    Offset,
    Smoothed,
    Anchored,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Bool,
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

impl Keyword {
    /// Names that are functions or part of durations and `@`, and keywords nowhere else.
    pub(crate) fn is_contextual(self) -> bool {
        use Keyword::*;
        matches!(self, Start | End | Step | Range | MaxOf | MinOf)
    }

    fn is_fill(self) -> bool {
        matches!(self, Keyword::Fill | Keyword::FillLeft | Keyword::FillRight)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

/// What cannot be a token, and where it began.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LexError {
    pub(crate) message: String,
    pub(crate) at: usize,
}

pub(crate) struct Lexer<'a> {
    input: &'a str,
    pos: usize,
    start: usize,
    paren_depth: usize,
    brace_open: bool,
    bracket_open: bool,
    /// Between `[` and the first number in it, where only duration arithmetic may stand.
    in_duration: bool,
    got_colon: bool,
    got_duration: bool,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(input: &'a str) -> Lexer<'a> {
        Lexer {
            input,
            pos: 0,
            start: 0,
            paren_depth: 0,
            brace_open: false,
            bracket_open: false,
            in_duration: false,
            got_colon: false,
            got_duration: false,
        }
    }

    pub(crate) fn input(&self) -> &'a str {
        self.input
    }

    /// The next token; comments and spaces are skipped. At the end of input it is always `Eof`.
    pub(crate) fn next_token(&mut self) -> Result<Token, LexError> {
        self.skip_blanks();
        self.start = self.pos;
        let kind = if self.brace_open {
            self.inside_braces()?
        } else if self.in_duration {
            self.inside_brackets()?
        } else {
            self.statement()?
        };
        Ok(Token { kind, span: Span { start: self.start, end: self.pos } })
    }

    fn skip_blanks(&mut self) {
        loop {
            self.eat_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
            // A comment within the first part of brackets is an unexpected character.
            if self.in_duration || !self.eat('#') {
                return;
            }
            self.eat_while(|c| !matches!(c, '\n' | '\r'));
        }
    }

    fn rest(&self) -> &'a str {
        &self.input[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.eat_if(|c| c == wanted)
    }

    fn eat_if(&mut self, accept: impl Fn(char) -> bool) -> bool {
        let found = self.peek().is_some_and(accept);
        if found {
            self.bump();
        }
        found
    }

    fn eat_while(&mut self, accept: impl Fn(char) -> bool) {
        while self.eat_if(&accept) {}
    }

    /// An error of the token that began at `start`.
    fn error<T>(&self, message: impl Into<String>) -> Result<T, LexError> {
        Err(LexError { message: message.into(), at: self.start })
    }

    /// An error behind the character just read.
    fn error_behind<T>(&self, message: impl Into<String>) -> Result<T, LexError> {
        Err(LexError { message: message.into(), at: self.pos })
    }

    fn statement(&mut self) -> Result<Kind, LexError> {
        let Some(c) = self.bump() else {
            return match (self.paren_depth, self.bracket_open) {
                (0, false) => Ok(Kind::Eof),
                (0, true) => self.error("unclosed left bracket"),
                _ => self.error("unclosed left parenthesis"),
            };
        };
        if let Some(kind) = self.arithmetic(c)? {
            return Ok(kind);
        }
        match c {
            '=' if self.eat('=') => Ok(Kind::Operator(BinaryOp::Eq)),
            '=' if self.peek() == Some('~') => self.error("unexpected character after '=': '~'"),
            '=' => Ok(Kind::Equal),
            '!' => match self.bump() {
                Some('=') => Ok(Kind::Operator(BinaryOp::Ne)),
                other => {
                    self.error(format!("unexpected character after '!': {}", quote_char(other)))
                }
            },
            '<' if self.eat('=') => Ok(Kind::Operator(BinaryOp::Le)),
            '<' if self.eat('/') => Ok(Kind::Operator(BinaryOp::TrimUpper)),
            '<' => Ok(Kind::Operator(BinaryOp::Lt)),
            '>' if self.eat('=') => Ok(Kind::Operator(BinaryOp::Ge)),
            '>' if self.eat('/') => Ok(Kind::Operator(BinaryOp::TrimLower)),
            '>' => Ok(Kind::Operator(BinaryOp::Gt)),
            '"' | '\'' => self.quoted(c),
            '`' => self.raw_string(),
            c if is_alpha(c) || c == ':' => self.word(c),
            '{' => {
                self.brace_open = true;
                Ok(Kind::LeftBrace)
            }
            '[' if self.bracket_open => self.error("unexpected left bracket '['"),
            '[' => {
                (self.bracket_open, self.in_duration, self.got_colon) = (true, true, false);
                Ok(Kind::LeftBracket)
            }
            ']' if !self.bracket_open => self.error("unexpected right bracket ']'"),
            ']' => {
                self.bracket_open = false;
                Ok(Kind::RightBracket)
            }
            '@' => Ok(Kind::At),
            c => self.error(format!("unexpected character: {}", quote_char(Some(c)))),
        }
    }

    /// The tokens that expressions and durations share: operators, parentheses, commas and numbers.
    fn arithmetic(&mut self, c: char) -> Result<Option<Kind>, LexError> {
        Ok(Some(match c {
            ',' => Kind::Comma,
            '+' => Kind::Operator(BinaryOp::Add),
            '-' => Kind::Operator(BinaryOp::Sub),
            '*' => Kind::Operator(BinaryOp::Mul),
            '/' => Kind::Operator(BinaryOp::Div),
            '%' => Kind::Operator(BinaryOp::Mod),
            '^' => Kind::Operator(BinaryOp::Pow),
            '(' => {
                self.paren_depth += 1;
                Kind::LeftParen
            }
            ')' => match self.paren_depth.checked_sub(1) {
                Some(depth) => {
                    self.paren_depth = depth;
                    Kind::RightParen
                }
                // The parenthesis is a token of its own for the parser, so the error belongs to
                // what follows.
                None => return self.error_behind("unexpected right parenthesis ')'"),
            },
            '0'..='9' => self.number_or_duration()?,
            '.' if self.peek().is_some_and(|c| c.is_ascii_digit()) => self.number_or_duration()?,
            _ => return Ok(None),
        }))
    }

    /// From `[` up to and including the first number.
    fn inside_brackets(&mut self) -> Result<Kind, LexError> {
        let Some(c) = self.bump() else {
            return self.error("unexpected end of input in duration expression");
        };
        match c {
            ']' => {
                (self.bracket_open, self.in_duration, self.got_colon) = (false, false, false);
                Ok(Kind::RightBracket)
            }
            ':' if !self.got_duration => {
                self.error_behind("unexpected colon before duration in duration expression")
            }
            ':' if self.got_colon => {
                self.error_behind("unexpected repeated colon in duration expression")
            }
            ':' => {
                self.got_colon = true;
                Ok(Kind::Colon)
            }
            c if c.is_ascii_digit() || c == '.' => match self.arithmetic(c)? {
                Some(kind) => {
                    (self.got_duration, self.in_duration) = (true, false);
                    Ok(kind)
                }
                None => self.error(format!(
                    "unexpected character in duration expression: {}",
                    quote_char(Some(c))
                )),
            },
            c => match (self.arithmetic(c)?, self.duration_keyword(c)) {
                (Some(kind), _) | (None, Some(kind)) => Ok(kind),
                _ => self.error(format!(
                    "unexpected character in duration expression: {}",
                    quote_char(Some(c))
                )),
            },
        }
    }

    /// `step`, `range`, `min_of` or `max_of` where only duration arithmetic may stand; `first` has
    /// been read.
    fn duration_keyword(&mut self, first: char) -> Option<Kind> {
        if !matches!(first.to_ascii_lowercase(), 's' | 'r' | 'm') {
            return None;
        }
        self.eat_while(is_alpha);
        match keyword(&self.input[self.start..self.pos])? {
            kind @ Kind::Keyword(
                Keyword::Step | Keyword::Range | Keyword::MaxOf | Keyword::MinOf,
            ) => Some(kind),
            _ => None,
        }
    }

    fn word(&mut self, first: char) -> Result<Kind, LexError> {
        if self.bracket_open {
            if first == ':' {
                if self.got_colon {
                    return self.error("unexpected colon ':'");
                }
                self.got_colon = true;
                return Ok(Kind::Colon);
            }
            let unexpected =
                format!("unexpected character: {}, expected ':'", quote_char(Some(first)));
            return self.duration_keyword(first).map_or_else(|| self.error(unexpected), Ok);
        }
        self.eat_while(|c| is_alpha(c) || c.is_ascii_digit() || c == ':');
        let word = &self.input[self.start..self.pos];
        match keyword(word) {
            // Metrics may be named `fill`, so it takes the parenthesis to make the keyword.
            Some(Kind::Keyword(k)) if k.is_fill() && !self.followed_by_paren() => {
                Ok(Kind::Identifier)
            }
            Some(kind) => Ok(kind),
            None if word.contains(':') => Ok(Kind::MetricIdentifier),
            None => Ok(Kind::Identifier),
        }
    }

    fn followed_by_paren(&self) -> bool {
        self.rest().trim_start_matches([' ', '\t', '\n', '\r']).starts_with('(')
    }

    fn inside_braces(&mut self) -> Result<Kind, LexError> {
        let Some(c) = self.bump() else {
            return self.error("unexpected end of input inside braces");
        };
        match c {
            c if is_alpha(c) => {
                self.eat_while(|c| is_alpha(c) || c.is_ascii_digit());
                Ok(Kind::Identifier)
            }
            ',' => Ok(Kind::Comma),
            '"' | '\'' => self.quoted(c),
            '`' => self.raw_string(),
            '=' if self.eat('~') => Ok(Kind::RegexMatch),
            '=' => Ok(Kind::Equal),
            '!' => match self.bump() {
                Some('~') => Ok(Kind::RegexNoMatch),
                Some('=') => Ok(Kind::Operator(BinaryOp::Ne)),
                other => self.error(format!(
                    "unexpected character after '!' inside braces: {}",
                    quote_char(other)
                )),
            },
            '{' => self.error("unexpected left brace '{'"),
            '}' => {
                self.brace_open = false;
                Ok(Kind::RightBrace)
            }
            c => self.error(format!("unexpected character inside braces: {}", quote_char(Some(c)))),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Kind, LexError> {
        loop {
            match self.bump() {
                Some('\\') => self.escape(quote)?,
                // Where input was not UTF-8, this character replaces it.
                Some(char::REPLACEMENT_CHARACTER) => return self.error("invalid UTF-8 rune"),
                None | Some('\n') => return self.error("unterminated quoted string"),
                Some(c) if c == quote => return Ok(Kind::String),
                Some(_) => {}
            }
        }
    }

    fn raw_string(&mut self) -> Result<Kind, LexError> {
        loop {
            match self.bump() {
                Some(char::REPLACEMENT_CHARACTER) => return self.error("invalid UTF-8 rune"),
                None => return self.error("unterminated raw string"),
                Some('`') => return Ok(Kind::String),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, quote: char) -> Result<(), LexError> {
        let Some(c) = self.bump() else {
            return self.error("escape sequence not terminated");
        };
        let (digits, radix, max) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == quote => return Ok(()),
            '0'..='7' => (3, 8, 255),
            'x' => (2, 16, 255),
            'u' => (4, 16, u32::from(char::MAX)),
            'U' => (8, 16, u32::from(char::MAX)),
            c => return self.error(format!("unknown escape sequence {}", describe_char(c))),
        };
        let mut code = c.to_digit(8).filter(|_| radix == 8).unwrap_or(0);
        for _ in 0..digits - usize::from(radix == 8) {
            let Some(c) = self.bump() else {
                return self.error("escape sequence not terminated");
            };
            let Some(digit) = c.to_digit(radix) else {
                return self
                    .error(format!("illegal character {} in escape sequence", describe_char(c)));
            };
            code = code.wrapping_mul(radix).wrapping_add(digit);
        }
        if code > max || (0xd800..0xe000).contains(&code) {
            return self.error("escape sequence is an invalid Unicode code point");
        }
        Ok(())
    }

    /// A number or duration; its first character has been read.
    fn number_or_duration(&mut self) -> Result<Kind, LexError> {
        self.pos = self.start;
        if self.scan_number() {
            return Ok(Kind::Number);
        }
        if self.scan_duration_units() {
            return Ok(Kind::Duration);
        }
        let text = quote(&self.input.as_bytes()[self.start..self.pos]);
        self.error(format!("bad number or duration syntax: {text}"))
    }

    /// Digits with at most one dot and one exponent, neither beside another nor beside an
    /// underscore. If it is not a number, the position stays where that was noticed, because a
    /// duration may continue from there.
    fn scan_number(&mut self) -> bool {
        let hex = self.eat('0') && self.eat_if(|c| matches!(c, 'x' | 'X'));
        if hex {
            self.eat('_');
        }
        let is_digit = |c: char| if hex { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
        let is_exponent = |c: char| matches!(c, 'e' | 'E');
        let (mut dot, mut exponent) = (false, false);
        self.eat('.');
        self.eat_if(is_digit);
        while let Some(c) =
            self.peek().filter(|&c| is_digit(c) || is_exponent(c) || matches!(c, '.' | '_'))
        {
            if (c == '.' && dot) || (is_exponent(c) && exponent) {
                self.bump();
                return false;
            }
            if self.eat('.') {
                dot = true;
                if self.eat_if(|c| matches!(c, '_' | '.')) || hex {
                    return false;
                }
            } else if self.eat_if(is_exponent) {
                exponent = true;
                self.eat_if(|c| matches!(c, '+' | '-'));
                if self.eat_if(|c| matches!(c, '.' | '_' | 'e' | 'E')) || self.peek().is_none() {
                    return false;
                }
            } else if self.eat('_') {
                if self.eat_if(|c| matches!(c, '.' | '_' | 'e' | 'E')) || self.peek().is_none() {
                    return false;
                }
            } else {
                self.eat_while(is_digit);
            }
        }
        !self.peek().is_some_and(|c| is_alpha(c) || c.is_ascii_digit())
    }

    /// The units of a duration whose first digits have been read: `5m`, `1h30m`. Order is checked
    /// later.
    fn scan_duration_units(&mut self) -> bool {
        if !self.eat_if(|c| matches!(c, 's' | 'm' | 'h' | 'd' | 'w' | 'y')) {
            return false;
        }
        self.eat('s');
        while self.eat_if(|c| c.is_ascii_digit()) {
            self.eat_while(|c| c.is_ascii_digit());
            if !self.eat_if(|c| matches!(c, 's' | 'm' | 'h' | 'd' | 'w')) {
                return false;
            }
            self.eat('s');
        }
        !self.eat_if(|c| is_alpha(c) || c.is_ascii_digit())
    }
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

/// The keyword, operator, aggregation or number that a word is, in any case.
fn keyword(word: &str) -> Option<Kind> {
    let word = word.to_ascii_lowercase();
    if let Some(op) = AggregateOp::ALL.into_iter().find(|op| op.as_str() == word) {
        return Some(Kind::Aggregate(op));
    }
    Some(match word.as_str() {
        "and" => Kind::Operator(BinaryOp::And),
        "or" => Kind::Operator(BinaryOp::Or),
        "unless" => Kind::Operator(BinaryOp::Unless),
        "atan2" => Kind::Operator(BinaryOp::Atan2),
        "inf" | "nan" => Kind::Number,
        "offset" => Kind::Keyword(Keyword::Offset),
        "smoothed" => Kind::Keyword(Keyword::Smoothed),
        "anchored" => Kind::Keyword(Keyword::Anchored),
        "by" => Kind::Keyword(Keyword::By),
        "without" => Kind::Keyword(Keyword::Without),
        "on" => Kind::Keyword(Keyword::On),
        "ignoring" => Kind::Keyword(Keyword::Ignoring),
        "group_left" => Kind::Keyword(Keyword::GroupLeft),
        "group_right" => Kind::Keyword(Keyword::GroupRight),
        "fill" => Kind::Keyword(Keyword::Fill),
        "fill_left" => Kind::Keyword(Keyword::FillLeft),
        "fill_right" => Kind::Keyword(Keyword::FillRight),
        "bool" => Kind::Keyword(Keyword::Bool),
        "start" => Kind::Keyword(Keyword::Start),
        "end" => Kind::Keyword(Keyword::End),
        "step" => Kind::Keyword(Keyword::Step),
        "range" => Kind::Keyword(Keyword::Range),
        "max_of" => Kind::Keyword(Keyword::MaxOf),
        "min_of" => Kind::Keyword(Keyword::MinOf),
        _ => return None,
    })
}
