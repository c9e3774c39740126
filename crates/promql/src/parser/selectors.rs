//! Selectors and what may follow them: matchers, ranges, subqueries, `@`, `offset`, `anchored` and
//! `smoothed`.

use model::{LabelsBuilder, METRIC_NAME, MatchOp, Matcher};

use super::{AT, OFFSET, Parser, Result, TokenContext};
use crate::ast::*;
use crate::durations::literal_millis;
use crate::lexer::{Keyword, Kind, Token};
use crate::quote::quote;

impl Parser<'_> {
    /// A selector whose name or opening brace has been taken.
    pub(super) fn selector(&mut self, name: Option<Token>, first: Span) -> Result<Expr> {
        let mut matchers = Vec::new();
        if name.is_none() || self.next_if(Kind::LeftBrace)?.is_some() {
            matchers = self.matchers()?;
        }
        let name = name.map(|token| self.text(token.span).to_owned());
        if let Some(name) = &name {
            matchers.push(Matcher::equal(METRIC_NAME, name.as_str()));
        }
        let span = Span { start: first.start, end: self.last_end };
        let vector = VectorSelector { name, matchers, offset: None, at: None, extension: None };
        Ok(Expr { kind: ExprKind::Vector(vector), span })
    }

    /// Matchers up to and including the closing brace.
    fn matchers(&mut self) -> Result<Vec<Matcher>> {
        let context = |expected| TokenContext { place: "label matching", expected };
        let mut matchers = Vec::new();
        loop {
            if self.next_if(Kind::RightBrace)?.is_some() {
                return Ok(matchers);
            }
            let matcher = self.within(context("identifier or \"}\""), Self::matcher)?;
            matchers.push(matcher);
            let outer = std::mem::replace(&mut self.context, context("\",\" or \"}\""));
            if self.peek()?.kind != Kind::RightBrace {
                self.expect(Kind::Comma)?;
            }
            self.context = outer;
        }
    }

    fn matcher(&mut self) -> Result<Matcher> {
        let token = self.next()?;
        let name = match token.kind {
            Kind::Identifier => self.text(token.span).as_bytes().to_vec(),
            Kind::String => self.string(token)?,
            _ => return Err(self.unexpected(token)),
        };
        let op = match self.peek()?.kind {
            Kind::Equal => MatchOp::Equal,
            Kind::Operator(BinaryOp::Ne) => MatchOp::NotEqual,
            Kind::RegexMatch => MatchOp::Regex,
            Kind::RegexNoMatch => MatchOp::NotRegex,
            _ if token.kind == Kind::String => return Ok(Matcher::equal(METRIC_NAME, name)),
            _ => {
                self.context.expected = "label matching operator";
                return Err(self.unexpected_next());
            }
        };
        self.next()?;
        self.context.expected = "string";
        let value = self.expect(Kind::String)?;
        let span = Span { start: token.span.start, end: value.span.end };
        let value = self.string(value)?;
        // Names of labels are UTF-8 in every store, so no others can be asked for.
        let name = String::from_utf8(name).map_err(|e| {
            self.error(token.span, format!("{} is not valid UTF-8", quote(e.as_bytes())))
        })?;
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            self.charge_regex(span, &value)?;
        }
        Matcher::new(op, name, value)
            .map_err(|e| self.error(span, format!("error parsing regexp: {}", e.reason)))
    }

    /// `a="b", "c.d"="e"` up to and including the closing brace; a lone string is the metric's
    /// name.
    pub(super) fn label_set(&mut self, labels: &mut LabelsBuilder) -> Result<()> {
        self.context.place = "label set";
        loop {
            if self.next_if(Kind::RightBrace)?.is_some() {
                return Ok(());
            }
            self.context.expected = "identifier or \"}\"";
            let token = self.next()?;
            let name = match token.kind {
                Kind::Identifier => self.text(token.span).as_bytes().to_vec(),
                Kind::String => self.string(token)?,
                _ => return Err(self.unexpected(token)),
            };
            if token.kind == Kind::String && self.peek()?.kind != Kind::Equal {
                labels.set(METRIC_NAME, name);
            } else {
                self.context.expected = "\"=\"";
                self.expect(Kind::Equal)?;
                self.context.expected = "string";
                let value = self.expect(Kind::String)?;
                labels.set(name, self.string(value)?);
            }
            self.context.expected = "\",\" or \"}\"";
            if self.peek()?.kind != Kind::RightBrace {
                self.expect(Kind::Comma)?;
            }
        }
    }

    /// A range or a subquery; `[` at `start` has been taken.
    pub(super) fn brackets(&mut self, expr: Expr, start: usize) -> Result<Expr> {
        let context = |place, expected| TokenContext { place, expected };
        let number = context("subquery or range selector", "number, duration, step(), or range()");
        let range = self.within(number, Self::positive_duration)?;
        let closing = self.within(context("subquery or range", "\":\" or \"]\""), |p| {
            if p.peek()?.kind == Kind::Colon { p.next() } else { p.expect(Kind::RightBracket) }
        })?;
        if closing.kind == Kind::RightBracket {
            return self.matrix(expr, range, Span { start, end: closing.span.end });
        }
        let number = context("subquery selector", "number, duration, step(), range(), or \"]\"");
        let step = self.within(number, |p| {
            if p.peek()?.kind == Kind::RightBracket {
                Ok(None)
            } else {
                p.positive_duration().map(Some)
            }
        })?;
        self.within(context("subquery selector", "\"]\""), |p| p.expect(Kind::RightBracket))?;
        let span = Span { start: expr.span.start, end: self.last_end };
        let subquery = Subquery { expr: Box::new(expr), range, step, offset: None, at: None };
        Ok(Expr { kind: ExprKind::Subquery(subquery), span })
    }

    fn matrix(&mut self, expr: Expr, range: Duration, brackets: Span) -> Result<Expr> {
        let selector_span = expr.span;
        let span = Span { start: selector_span.start, end: brackets.end };
        match expr.kind {
            ExprKind::Vector(vector) if vector.offset.is_some() => {
                Err(self.error(brackets, "no offset modifiers allowed before range"))
            }
            ExprKind::Vector(vector) if vector.at.is_some() => {
                Err(self.error(brackets, "no @ modifiers allowed before range"))
            }
            ExprKind::Vector(selector) => Ok(Expr {
                kind: ExprKind::Matrix(MatrixSelector { selector, selector_span, range }),
                span,
            }),
            _ => Err(self.error(brackets, "ranges only allowed for vector selectors")),
        }
    }

    fn positive_duration(&mut self) -> Result<Duration> {
        let duration = self.duration_expr(0)?;
        match duration.kind {
            DurationExprKind::Number(n) if n.value <= 0.0 => {
                Err(self.error(duration.span, "duration must be greater than 0"))
            }
            _ => Ok(to_duration(duration)),
        }
    }

    pub(super) fn offset_modifier(&mut self, expr: &mut Expr) -> Result<()> {
        let offset = to_duration(self.within(OFFSET, Self::offset_duration)?);
        let slot = match &mut expr.kind {
            ExprKind::Vector(selector) => &mut selector.offset,
            ExprKind::Matrix(matrix) => &mut matrix.selector.offset,
            ExprKind::Subquery(subquery) => &mut subquery.offset,
            _ => {
                let wanted = "an instant vector selector or range vector selector or a subquery";
                return Err(
                    self.error(expr.span, format!("offset modifier must be preceded by {wanted}"))
                );
            }
        };
        if slot.is_some() {
            return Err(self.error(expr.span, "offset may not be set multiple times"));
        }
        *slot = (offset.millis != Some(0)).then_some(offset);
        expr.span.end = self.last_end;
        Ok(())
    }

    pub(super) fn at_modifier(&mut self, expr: &mut Expr) -> Result<()> {
        let (at, seconds) = self.within(AT, |p| {
            if let Kind::Keyword(k @ (Keyword::Start | Keyword::End)) = p.peek()?.kind {
                p.next()?;
                p.expect(Kind::LeftParen)?;
                p.expect(Kind::RightParen)?;
                return Ok((if k == Keyword::Start { At::Start } else { At::End }, 0.0));
            }
            let seconds = if p.sign()? { -p.number_token()? } else { p.number_token()? };
            Ok((At::Millis((seconds * 1000.0).round() as i64), seconds))
        })?;
        if !seconds.is_finite() || seconds.abs() >= i64::MAX as f64 {
            let printed = if seconds.is_finite() {
                format!("{seconds:.6}")
            } else {
                crate::kernels::format::plain(seconds)
            };
            return Err(
                self.error(expr.span, format!("timestamp out of bounds for @ modifier: {printed}"))
            );
        }
        let slot = match &mut expr.kind {
            ExprKind::Vector(selector) => &mut selector.at,
            ExprKind::Matrix(matrix) => &mut matrix.selector.at,
            ExprKind::Subquery(subquery) => &mut subquery.at,
            _ => {
                let wanted = "an instant vector selector or range vector selector or a subquery";
                return Err(
                    self.error(expr.span, format!("@ modifier must be preceded by {wanted}"))
                );
            }
        };
        if slot.is_some() {
            return Err(self.error(expr.span, "@ <timestamp> may not be set multiple times"));
        }
        *slot = Some(at);
        expr.span.end = self.last_end;
        Ok(())
    }

    pub(super) fn extension(&mut self, expr: &mut Expr, extension: Extension) -> Result<()> {
        let name = match extension {
            Extension::Anchored => "anchored",
            Extension::Smoothed => "smoothed",
        };
        if !self.options.extended_range_selectors {
            return Err(
                self.error(expr.span, format!("{name} modifier is experimental and not enabled"))
            );
        }
        let slot = match &mut expr.kind {
            ExprKind::Vector(selector) => &mut selector.extension,
            ExprKind::Matrix(matrix) => &mut matrix.selector.extension,
            ExprKind::Subquery(_) => {
                return Err(self
                    .error(expr.span, format!("{name} modifier is not supported for subqueries")));
            }
            _ => return Err(self.error(expr.span, format!("{name} modifier not implemented"))),
        };
        if slot.is_some_and(|set| set != extension) {
            return Err(
                self.error(expr.span, "anchored and smoothed modifiers cannot be used together")
            );
        }
        *slot = Some(extension);
        Ok(())
    }
}

fn to_duration(expr: DurationExpr) -> Duration {
    let span = expr.span;
    match expr.kind {
        DurationExprKind::Number(n) => {
            Duration { millis: Some(literal_millis(n)), expr: None, span }
        }
        _ => Duration { millis: None, expr: Some(Box::new(expr)), span },
    }
}
