//! Recursive descent with precedence climbing.
//!
//! Which error a wrong text gets depends on how far it was read when the error was noticed: the
//! parser looks at a next token only where the grammar needs one, as the grammar of Prometheus (an
//! LALR(1) grammar with error productions) does. The innermost construct that knows a better text
//! gives the context of an unexpected token.

mod durations;
mod selectors;

use crate::ast::*;
use crate::check;
use crate::durations::{literal_seconds, parse_duration};
use crate::error::{self, ParseError};
use crate::functions::{self, FeatureGate};
use crate::lexer::{Keyword, Kind, Lexer, Token};
use crate::numbers::{NAN, parse_number};
use crate::quote::{quote, unquote};
use model::{Labels, LabelsBuilder, METRIC_NAME, Matcher};

type Result<T> = std::result::Result<T, ParseError>;

/// Longer texts are refused.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// Expressions whose tree is higher are refused, so that walking the tree by recursion is safe.
pub const MAX_DEPTH: usize = 512;

/// Expressions nested deeper are refused: reading one takes more stack than walking it. Chains such
/// as `a + b + c` are high but do not nest.
pub const MAX_NESTING: usize = 200;

/// Texts are refused if their regular expressions would take longer than this to compile, in
/// microseconds as [`Matcher::regex_cost`] estimates them: there is room for two thousand plain
/// ones, or one of half a megabyte.
const MAX_REGEX_COST: u64 = 500_000;

/// Which parts of the language are enabled beyond the stable ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParserOptions {
    /// Experimental functions and aggregations (`promql-experimental-functions`).
    pub experimental_functions: bool,
    /// `anchored` and `smoothed` (`promql-extended-range-selectors`).
    pub extended_range_selectors: bool,
    /// `fill`, `fill_left` and `fill_right` (`promql-binop-fill-modifiers`).
    pub fill_modifiers: bool,
    /// `xrate`, `xincrease` and `xdelta` of Thanos' engine.
    pub extended_rate_functions: bool,
}

impl ParserOptions {
    /// Everything the language has.
    pub const ALL: ParserOptions = ParserOptions {
        experimental_functions: true,
        extended_range_selectors: true,
        fill_modifiers: true,
        extended_rate_functions: true,
    };

    /// Parses and type-checks an expression.
    pub fn parse_expr(&self, text: &str) -> Result<Expr> {
        let mut parser = Parser::new(text, *self)?;
        if parser.peek()?.kind == Kind::Eof {
            return Err(parser.error(Span::default(), "no expression found in input"));
        }
        let (mut expr, _) = parser.expression(0)?;
        parser.expect_end()?;
        check::check(text, &mut expr)?;
        Ok(expr)
    }
}

/// Parses and type-checks an expression of the stable language; [`ParserOptions::parse_expr`] takes
/// more.
pub fn parse_expr(text: &str) -> Result<Expr> {
    ParserOptions::default().parse_expr(text)
}

/// Parses an instant vector selector without modifiers, as `match[]` parameters hold it. That one
/// of the matchers refuses the empty string is not checked.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>> {
    let mut parser = Parser::new(text, ParserOptions::default())?;
    let token = parser.next()?;
    let selector = match token.kind {
        Kind::LeftBrace => parser.selector(None, token.span)?,
        kind if names_a_metric(kind) => parser.selector(Some(token), token.span)?,
        _ => return Err(parser.unexpected(token)),
    };
    parser.expect_end()?;
    match selector.kind {
        ExprKind::Vector(vector) => Ok(vector.matchers),
        _ => Err(parser.unexpected(token)),
    }
}

/// The labels that a series description begins with, and where they end.
pub(crate) fn series_labels(text: &str) -> Result<(Labels, usize)> {
    let mut parser = Parser::new(text, ParserOptions::default())?;
    let mut labels = LabelsBuilder::default();
    let mut token = parser.next()?;
    if names_a_metric(token.kind) {
        labels.set(METRIC_NAME, parser.text(token.span));
        // After a blank there are values, which may begin with a brace too.
        if !text[token.span.end..].starts_with('{') {
            return Ok((labels.build(), token.span.end));
        }
        token = parser.next()?;
    }
    if token.kind != Kind::LeftBrace {
        return Err(parser.unexpected(token));
    }
    parser.label_set(&mut labels)?;
    Ok((labels.build(), parser.last_end))
}

/// The place of an unexpected token, and what could be there instead.
#[derive(Clone, Copy)]
struct TokenContext {
    place: &'static str,
    expected: &'static str,
}

const TOP: TokenContext = TokenContext { place: "", expected: "" };
const AGGREGATION: TokenContext = TokenContext { place: "aggregation", expected: "" };
const OFFSET: TokenContext =
    TokenContext { place: "offset", expected: "number, duration, step(), or range()" };
const AT: TokenContext = TokenContext { place: "@", expected: "timestamp" };

/// An expression and the height of its tree.
type Tree = (Expr, usize);

pub(crate) struct Parser<'a> {
    lexer: Lexer<'a>,
    options: ParserOptions,
    peeked: Option<Token>,
    context: TokenContext,
    /// How deep the expression being read is nested.
    depth: usize,
    /// The end of the last token taken.
    last_end: usize,
    /// What compiling the regular expressions so far costs.
    regex_cost: u64,
}

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str, options: ParserOptions) -> Result<Parser<'a>> {
        if text.len() > MAX_TEXT_BYTES {
            let message =
                format!("text of {} bytes is longer than {MAX_TEXT_BYTES} bytes", text.len());
            return Err(ParseError::new(error::Kind::Limit, text, Span::default(), message));
        }
        let lexer = Lexer::new(text);
        Ok(Parser {
            lexer,
            options,
            peeked: None,
            context: TOP,
            depth: 0,
            last_end: 0,
            regex_cost: 0,
        })
    }

    fn text(&self, span: Span) -> &'a str {
        &self.lexer.input()[span.start..span.end]
    }

    fn peek(&mut self) -> Result<Token> {
        if let Some(token) = self.peeked {
            return Ok(token);
        }
        let token = self.lexer.next_token().map_err(|e| {
            let span = Span { start: e.at, end: self.lexer.input().len() };
            ParseError::new(error::Kind::Invalid, self.lexer.input(), span, e.message)
        })?;
        self.peeked = Some(token);
        Ok(token)
    }

    fn next(&mut self) -> Result<Token> {
        let token = self.peek()?;
        self.peeked = None;
        self.last_end = token.span.end;
        Ok(token)
    }

    fn next_if(&mut self, kind: Kind) -> Result<Option<Token>> {
        if self.peek()?.kind == kind { self.next().map(Some) } else { Ok(None) }
    }

    fn expect(&mut self, kind: Kind) -> Result<Token> {
        match self.next_if(kind)? {
            Some(token) => Ok(token),
            None => Err(self.unexpected_next()),
        }
    }

    fn expect_end(&mut self) -> Result<()> {
        self.context = TOP;
        self.expect(Kind::Eof).map(drop)
    }

    /// Runs `read` with another context for unexpected tokens.
    fn within<T>(
        &mut self,
        context: TokenContext,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let outer = std::mem::replace(&mut self.context, context);
        let result = read(self)?;
        self.context = outer;
        Ok(result)
    }

    fn error(&self, span: Span, message: impl Into<String>) -> ParseError {
        ParseError::new(error::Kind::Invalid, self.lexer.input(), span, message)
    }

    /// The error of a next token that has been looked at and fits nowhere.
    fn unexpected_next(&mut self) -> ParseError {
        match self.peek() {
            Ok(token) => self.unexpected(token),
            Err(error) => error,
        }
    }

    fn unexpected(&self, token: Token) -> ParseError {
        let mut message = format!("unexpected {}", self.describe(token));
        if !self.context.place.is_empty() {
            message.push_str(&format!(" in {}", self.context.place));
        }
        if !self.context.expected.is_empty() {
            message.push_str(&format!(", expected {}", self.context.expected));
        }
        self.error(token.span, message)
    }

    fn describe(&self, token: Token) -> String {
        let text = self.text(token.span);
        let shortened = || match text.char_indices().nth(10) {
            Some((end, _)) if text.len() > 10 => format!("{}...", quote(&text.as_bytes()[..end])),
            _ if text.len() > 10 => format!("{}...", quote(text.as_bytes())),
            _ => quote(text.as_bytes()),
        };
        match token.kind {
            Kind::Eof => "end of input".to_owned(),
            Kind::Identifier => format!("identifier {}", quote(text.as_bytes())),
            Kind::MetricIdentifier => format!("metric identifier {}", quote(text.as_bytes())),
            Kind::String => format!("string {}", shortened()),
            Kind::Number => format!("number {}", shortened()),
            Kind::Duration => format!("duration {}", shortened()),
            Kind::Keyword(k) if !k.is_contextual() => format!("<{text}>"),
            Kind::Aggregate(_) => format!("<aggr:{text}>"),
            Kind::Operator(_) | Kind::At | Kind::RegexMatch | Kind::RegexNoMatch => {
                format!("<op:{text}>")
            }
            _ => shortened(),
        }
    }

    fn check_height(&self, span: Span, height: usize) -> Result<usize> {
        if height <= MAX_DEPTH { Ok(height) } else { Err(self.too_deep(span, MAX_DEPTH)) }
    }

    /// Begins to read an expression within another.
    fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        let here = Span { start: self.last_end, end: self.last_end };
        if self.depth <= MAX_NESTING { Ok(()) } else { Err(self.too_deep(here, MAX_NESTING)) }
    }

    fn too_deep(&self, span: Span, levels: usize) -> ParseError {
        let message = format!("expression nests deeper than {levels} levels");
        ParseError::new(error::Kind::Limit, self.lexer.input(), span, message)
    }

    /// Counts a regular expression that will be compiled, before it is.
    fn charge_regex(&mut self, span: Span, pattern: &[u8]) -> Result<()> {
        self.regex_cost = self.regex_cost.saturating_add(Matcher::regex_cost(pattern));
        if self.regex_cost <= MAX_REGEX_COST {
            return Ok(());
        }
        let message = "too many or too large regular expressions";
        Err(ParseError::new(error::Kind::Limit, self.lexer.input(), span, message))
    }

    /// An expression of operators that bind at least as tightly as `min_precedence`.
    fn expression(&mut self, min_precedence: u8) -> Result<Tree> {
        self.enter()?;
        let (mut lhs, mut height) = self.operand()?;
        while let Kind::Operator(op) = self.peek()?.kind {
            if op.precedence() < min_precedence {
                break;
            }
            self.next()?;
            let (matching, return_bool) = self.binary_modifiers()?;
            let right_min = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
            let (rhs, rhs_height) = self.expression(right_min)?;
            let span = Span { start: lhs.span.start, end: rhs.span.end };
            let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
            if fills && !self.options.fill_modifiers {
                return Err(
                    self.error(span, "binop fill modifiers are experimental and not enabled")
                );
            }
            height = self.check_height(span, 1 + height.max(rhs_height))?;
            let (lhs_box, rhs) = (Box::new(lhs), Box::new(rhs));
            let binary = Binary { op, lhs: lhs_box, rhs, matching: Some(matching), return_bool };
            lhs = Expr { kind: ExprKind::Binary(binary), span };
        }
        self.depth -= 1;
        Ok((lhs, height))
    }

    /// A unary expression, or a primary one with its modifiers; those bind tighter than any
    /// operator.
    fn operand(&mut self) -> Result<Tree> {
        let token = self.next()?;
        if let Kind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) = token.kind {
            let (inner, height) = self.expression(BinaryOp::Pow.precedence())?;
            return self.unary(token.span.start, op == BinaryOp::Sub, inner, height);
        }
        let (mut expr, mut height) = self.primary(token)?;
        loop {
            let token = self.peek()?;
            match token.kind {
                Kind::LeftBracket => {
                    self.next()?;
                    expr = self.brackets(expr, token.span.start)?;
                    height = self.check_height(expr.span, height + 1)?;
                }
                Kind::At => {
                    self.next()?;
                    self.at_modifier(&mut expr)?;
                }
                Kind::Keyword(Keyword::Offset) => {
                    self.next()?;
                    self.offset_modifier(&mut expr)?;
                }
                Kind::Keyword(Keyword::Anchored) => {
                    self.next()?;
                    self.extension(&mut expr, Extension::Anchored)?;
                }
                Kind::Keyword(Keyword::Smoothed) => {
                    self.next()?;
                    self.extension(&mut expr, Extension::Smoothed)?;
                }
                _ => return Ok((expr, height)),
            }
        }
    }

    /// The sign of a plain number becomes part of it.
    fn unary(&mut self, start: usize, negate: bool, inner: Expr, height: usize) -> Result<Tree> {
        let span = Span { start, end: inner.span.end };
        if let ExprKind::Number(number) = inner.kind {
            let value = if negate { negated(number.value) } else { number.value };
            return Ok((
                Expr { kind: ExprKind::Number(NumberLiteral { value, ..number }), span },
                height,
            ));
        }
        let height = self.check_height(span, height + 1)?;
        Ok((Expr { kind: ExprKind::Unary(Unary { negate, expr: Box::new(inner) }), span }, height))
    }

    fn primary(&mut self, token: Token) -> Result<Tree> {
        let span = token.span;
        let kind = match token.kind {
            Kind::Number | Kind::Duration => ExprKind::Number(self.number(token)?),
            Kind::String => ExprKind::String(StringLiteral { value: self.string(token)? }),
            Kind::LeftParen => {
                let (inner, height) = self.expression(0)?;
                let end = self.expect(Kind::RightParen)?.span.end;
                let span = Span { start: span.start, end };
                let height = self.check_height(span, height + 1)?;
                return Ok((Expr { kind: ExprKind::Paren(Box::new(inner)), span }, height));
            }
            Kind::LeftBrace => return Ok((self.selector(None, span)?, 1)),
            Kind::Aggregate(op) => {
                let next = self.peek()?.kind;
                if matches!(next, Kind::LeftParen | Kind::Keyword(Keyword::By | Keyword::Without)) {
                    return self.aggregation(op, span);
                }
                return Ok((self.selector(Some(token), span)?, 1));
            }
            kind if names_a_metric(kind) => {
                let callable = match kind {
                    Kind::Identifier => true,
                    Kind::Keyword(k) => k.is_contextual(),
                    _ => false,
                };
                if callable && self.peek()?.kind == Kind::LeftParen {
                    return self.call(span);
                }
                return Ok((self.selector(Some(token), span)?, 1));
            }
            _ => return Err(self.unexpected(token)),
        };
        Ok((Expr { kind, span }, 1))
    }

    fn number(&mut self, token: Token) -> Result<NumberLiteral> {
        let (text, is_duration) = (self.text(token.span), token.kind == Kind::Duration);
        let value = if is_duration {
            parse_duration(text).map(literal_seconds).map_err(|e| e.to_string())
        } else {
            parse_number(text)
        };
        value
            .map(|value| NumberLiteral { value, is_duration })
            .map_err(|message| self.error(token.span, message))
    }

    fn string(&mut self, token: Token) -> Result<Vec<u8>> {
        let text = self.text(token.span);
        unquote(text).ok_or_else(|| {
            let message =
                format!("error unquoting string {}: invalid syntax", quote(text.as_bytes()));
            self.error(token.span, message)
        })
    }

    fn call(&mut self, name: Span) -> Result<Tree> {
        let (args, height) = self.arguments()?;
        let text = self.text(name);
        let quoted = quote(text.as_bytes());
        let found = functions::lookup(text)
            .filter(|f| f.gate != FeatureGate::ExtendedRate || self.options.extended_rate_functions)
            .ok_or_else(|| self.error(name, format!("unknown function with name {quoted}")))?;
        if found.gate == FeatureGate::Experimental && !self.options.experimental_functions {
            return Err(self.error(name, format!("function {quoted} is not enabled")));
        }
        let span = Span { start: name.start, end: self.last_end };
        let height = self.check_height(span, height + 1)?;
        if let ("label_replace", Some(ExprKind::String(regex))) =
            (found.name, args.get(4).map(|arg| &arg.kind))
        {
            self.charge_regex(args[4].span, &regex.value)?;
        }
        Ok((Expr { kind: ExprKind::Call(Call { func: found.name, args }), span }, height))
    }

    /// `( … , … )` and the height of the highest argument.
    fn arguments(&mut self) -> Result<(Vec<Expr>, usize)> {
        self.expect(Kind::LeftParen)?;
        let (mut args, mut height) = (Vec::new(), 0);
        if self.next_if(Kind::RightParen)?.is_some() {
            return Ok((args, height));
        }
        loop {
            let (arg, arg_height) = self.expression(0)?;
            args.push(arg);
            height = height.max(arg_height);
            if self.next_if(Kind::RightParen)?.is_some() {
                return Ok((args, height));
            }
            let comma = self.expect(Kind::Comma)?;
            if !starts_an_expression(self.peek()?.kind) {
                return Err(
                    self.error(comma.span, "trailing commas not allowed in function call args")
                );
            }
        }
    }

    fn aggregation(&mut self, op: AggregateOp, name: Span) -> Result<Tree> {
        let (grouping, without, (args, height)) = self.within(AGGREGATION, |p| {
            if let Some(without) = p.grouping_keyword()? {
                return Ok((p.grouping()?, without, p.arguments()?));
            }
            let args = p.arguments()?;
            Ok(match p.grouping_keyword()? {
                Some(without) => (p.grouping()?, without, args),
                None => (Vec::new(), false, args),
            })
        })?;
        let span = Span { start: name.start, end: self.last_end };
        let wanted = 1 + usize::from(op.param_type().is_some());
        if args.is_empty() {
            return Err(self.error(span, "no arguments for aggregate expression provided"));
        }
        if op.is_experimental() && !self.options.experimental_functions {
            let flag = "must be enabled with --enable-feature=promql-experimental-functions";
            return Err(self.error(span, format!("{}() is experimental and {flag}", op.as_str())));
        }
        let count = args.len();
        let mut args = args.into_iter();
        let param = if wanted == 2 { args.next().map(Box::new) } else { None };
        let (Some(expr), None) = (args.next(), args.next()) else {
            let message = "wrong number of arguments for aggregate expression provided";
            return Err(self.error(span, format!("{message}, expected {wanted}, got {count}")));
        };
        let height = self.check_height(span, height + 1)?;
        let aggregation = Aggregation { op, expr: Box::new(expr), param, grouping, without };
        Ok((Expr { kind: ExprKind::Aggregate(aggregation), span }, height))
    }

    /// `by` or `without`; returns whether it is the latter.
    fn grouping_keyword(&mut self) -> Result<Option<bool>> {
        let without = match self.peek()?.kind {
            Kind::Keyword(Keyword::By) => false,
            Kind::Keyword(Keyword::Without) => true,
            _ => return Ok(None),
        };
        self.next()?;
        Ok(Some(without))
    }

    /// `(a, "b.c", …)`.
    fn grouping(&mut self) -> Result<Vec<String>> {
        let context = |expected| TokenContext { place: "grouping opts", expected };
        self.within(context("\"(\""), |p| p.expect(Kind::LeftParen))?;
        let mut labels = Vec::new();
        loop {
            if self.next_if(Kind::RightParen)?.is_some() {
                return Ok(labels);
            }
            let label = self.within(context("label"), Self::grouping_label)?;
            labels.push(label);
            let outer = std::mem::replace(&mut self.context, context("\",\" or \")\""));
            if self.peek()?.kind != Kind::RightParen {
                self.expect(Kind::Comma)?;
            }
            self.context = outer;
        }
    }

    fn grouping_label(&mut self) -> Result<String> {
        let token = self.next()?;
        let bytes = match token.kind {
            Kind::String => self.string(token)?,
            kind if names_a_label(kind) => self.text(token.span).as_bytes().to_vec(),
            _ => return Err(self.unexpected(token)),
        };
        match String::from_utf8(bytes) {
            Ok(name) if !name.is_empty() => Ok(name),
            other => {
                let bytes = other.map_or_else(|e| e.into_bytes(), String::into_bytes);
                Err(self.error(
                    token.span,
                    format!("invalid label name for grouping: {}", quote(&bytes)),
                ))
            }
        }
    }

    /// `bool`, `on`/`ignoring`, `group_left`/`group_right` and the fill modifiers behind a binary
    /// operator.
    fn binary_modifiers(&mut self) -> Result<(VectorMatching, bool)> {
        let mut matching = VectorMatching {
            cardinality: Cardinality::OneToOne,
            on: false,
            labels: Vec::new(),
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        let return_bool = self.next_if(Kind::Keyword(Keyword::Bool))?.is_some();
        if let Kind::Keyword(k @ (Keyword::On | Keyword::Ignoring)) = self.peek()?.kind {
            self.next()?;
            matching.on = k == Keyword::On;
            matching.labels = self.grouping()?;
            if let Kind::Keyword(k @ (Keyword::GroupLeft | Keyword::GroupRight)) = self.peek()?.kind
            {
                self.next()?;
                let left = k == Keyword::GroupLeft;
                matching.cardinality =
                    if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                // The list may be left out, but only before an operand.
                let next = self.peek()?.kind;
                if next == Kind::LeftParen || !starts_an_expression(next) {
                    matching.include = self.grouping()?;
                }
            }
        }
        if self.next_if(Kind::Keyword(Keyword::Fill))?.is_some() {
            let value = self.fill_value()?;
            (matching.fill_left, matching.fill_right) = (Some(value), Some(value));
        } else if self.next_if(Kind::Keyword(Keyword::FillLeft))?.is_some() {
            matching.fill_left = Some(self.fill_value()?);
            if self.next_if(Kind::Keyword(Keyword::FillRight))?.is_some() {
                matching.fill_right = Some(self.fill_value()?);
            }
        } else if self.next_if(Kind::Keyword(Keyword::FillRight))?.is_some() {
            matching.fill_right = Some(self.fill_value()?);
            if self.next_if(Kind::Keyword(Keyword::FillLeft))?.is_some() {
                matching.fill_left = Some(self.fill_value()?);
            }
        }
        Ok((matching, return_bool))
    }

    fn fill_value(&mut self) -> Result<f64> {
        self.expect(Kind::LeftParen)?;
        let negate = self.sign()?;
        let value = self.number_token()?;
        self.expect(Kind::RightParen)?;
        Ok(if negate { negated(value) } else { value })
    }

    /// Takes a sign if there is one; returns whether it is a minus.
    fn sign(&mut self) -> Result<bool> {
        let negate = match self.peek()?.kind {
            Kind::Operator(BinaryOp::Add) => false,
            Kind::Operator(BinaryOp::Sub) => true,
            _ => return Ok(false),
        };
        self.next()?;
        Ok(negate)
    }

    fn number_token(&mut self) -> Result<f64> {
        let token = self.next()?;
        match token.kind {
            Kind::Number | Kind::Duration => Ok(self.number(token)?.value),
            _ => Err(self.unexpected(token)),
        }
    }
}

/// A sign does not touch a NaN literal.
fn negated(value: f64) -> f64 {
    if value.is_nan() { NAN } else { -value }
}

/// Words that are metric names where no keyword can stand.
fn names_a_metric(kind: Kind) -> bool {
    use Keyword::*;
    match kind {
        Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregate(_) => true,
        Kind::Operator(op) => op.is_set_operator(),
        Kind::Keyword(k) => !matches!(k, On | Ignoring | GroupLeft | GroupRight | Bool),
        _ => false,
    }
}

/// Words that are label names within `by (…)` and the like.
fn names_a_label(kind: Kind) -> bool {
    match kind {
        Kind::Identifier | Kind::MetricIdentifier | Kind::Aggregate(_) => true,
        Kind::Operator(op) => op.is_set_operator() || op == BinaryOp::Atan2,
        Kind::Keyword(k) => k != Keyword::Without,
        _ => false,
    }
}

fn starts_an_expression(kind: Kind) -> bool {
    let literal = matches!(
        kind,
        Kind::Number | Kind::Duration | Kind::String | Kind::LeftParen | Kind::LeftBrace
    );
    literal || matches!(kind, Kind::Operator(BinaryOp::Add | BinaryOp::Sub)) || names_a_metric(kind)
}

#[cfg(test)]
mod tests;
