//! Duration arithmetic within brackets and behind `offset`.

use super::{Parser, Result, negated};
use crate::ast::*;
use crate::durations::MAX_SECONDS;
use crate::lexer::{Keyword, Kind, Token};

impl Parser<'_> {
    /// What follows `offset`. Only arithmetic that begins with a parenthesis continues past its
    /// first operand: `foo offset 5m + 1` adds 1 to the shifted selector.
    pub(super) fn offset_duration(&mut self) -> Result<DurationExpr> {
        let token = self.next()?;
        match token.kind {
            Kind::LeftParen => {
                let first = self.paren_duration(token)?;
                self.duration_operators(first, 0)
            }
            Kind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                let negate = op == BinaryOp::Sub;
                let next = self.next()?;
                match next.kind {
                    Kind::LeftParen => {
                        let inner = self.paren_duration(next)?;
                        self.signed_duration(token, negate, inner)
                    }
                    Kind::Operator(BinaryOp::Add | BinaryOp::Sub) => {
                        let inner = self.duration_operand(next)?;
                        let inner = self.duration_operators(inner, BinaryOp::Pow.precedence())?;
                        let first = self.signed_duration(token, negate, inner)?;
                        self.duration_operators(first, 0)
                    }
                    Kind::Number | Kind::Duration => {
                        let kind = DurationExprKind::Number(self.number(next)?);
                        self.signed_duration(token, negate, DurationExpr { kind, span: next.span })
                    }
                    _ => {
                        let inner = self.duration_operand(next)?;
                        self.signed_duration(token, negate, inner)
                    }
                }
            }
            _ => self.duration_operand(token),
        }
    }

    /// Arithmetic of operators that bind at least as tightly as `min_precedence`.
    pub(super) fn duration_expr(&mut self, min_precedence: u8) -> Result<DurationExpr> {
        self.enter()?;
        let token = self.next()?;
        let first = self.duration_operand(token)?;
        let expr = self.duration_operators(first, min_precedence)?;
        self.depth -= 1;
        Ok(expr)
    }

    fn duration_operators(
        &mut self,
        mut lhs: DurationExpr,
        min_precedence: u8,
    ) -> Result<DurationExpr> {
        let mut height = self.depth;
        while let Kind::Operator(op) = self.peek()?.kind {
            use BinaryOp::*;
            if !matches!(op, Add | Sub | Mul | Div | Mod | Pow) || op.precedence() < min_precedence
            {
                break;
            }
            let token = self.next()?;
            let rhs =
                self.duration_expr(if op == Pow { op.precedence() } else { op.precedence() + 1 })?;
            if let (Div | Mod, DurationExprKind::Number(NumberLiteral { value: 0.0, .. })) =
                (op, &rhs.kind)
            {
                let what = if op == Div { "division by zero" } else { "modulo by zero" };
                return Err(self.error(token.span, what));
            }
            let span = Span { start: lhs.span.start, end: rhs.span.end };
            height = self.check_height(span, height + 1)?;
            lhs = DurationExpr {
                kind: DurationExprKind::Binary(op, Box::new(lhs), Box::new(rhs)),
                span,
            };
        }
        Ok(lhs)
    }

    fn duration_operand(&mut self, token: Token) -> Result<DurationExpr> {
        let kind = match token.kind {
            Kind::Number | Kind::Duration => {
                let number = self.number(token)?;
                return self.duration_in_range(token.span, number, token.span);
            }
            Kind::Operator(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
                let inner = self.duration_expr(BinaryOp::Pow.precedence())?;
                return self.signed_duration(token, op == BinaryOp::Sub, inner);
            }
            Kind::LeftParen => return self.paren_duration(token),
            Kind::Keyword(Keyword::Step) => DurationExprKind::Step,
            Kind::Keyword(Keyword::Range) => DurationExprKind::Range,
            Kind::Keyword(k @ (Keyword::MinOf | Keyword::MaxOf)) => return self.min_or_max(k),
            _ => return Err(self.unexpected(token)),
        };
        self.expect(Kind::LeftParen)?;
        let end = self.expect(Kind::RightParen)?.span.end;
        Ok(DurationExpr { kind, span: Span { start: token.span.start, end } })
    }

    fn min_or_max(&mut self, keyword: Keyword) -> Result<DurationExpr> {
        self.expect(Kind::LeftParen)?;
        let a = Box::new(self.duration_expr(0)?);
        self.expect(Kind::Comma)?;
        let b = Box::new(self.duration_expr(0)?);
        self.expect(Kind::RightParen)?;
        // Errors name the arguments, as for an operator.
        let span = Span { start: a.span.start, end: b.span.end };
        let kind = if keyword == Keyword::MinOf {
            DurationExprKind::Min(a, b)
        } else {
            DurationExprKind::Max(a, b)
        };
        Ok(DurationExpr { kind, span })
    }

    /// `( … )`, its opening parenthesis taken. Doubled parentheses are one.
    fn paren_duration(&mut self, open: Token) -> Result<DurationExpr> {
        let inner = self.duration_expr(0)?;
        self.expect(Kind::RightParen)?;
        let span = match inner.kind {
            DurationExprKind::Paren(_) => return Ok(inner),
            // Errors name a lone number with its parenthesis and arithmetic without.
            DurationExprKind::Number(_) => Span { start: open.span.start, end: inner.span.end },
            _ => inner.span,
        };
        Ok(DurationExpr { kind: DurationExprKind::Paren(Box::new(inner)), span })
    }

    /// The sign of a plain number becomes part of it; a plus before anything else is ignored.
    fn signed_duration(
        &mut self,
        sign: Token,
        negate: bool,
        inner: DurationExpr,
    ) -> Result<DurationExpr> {
        let span = Span { start: sign.span.start, end: inner.span.end };
        match inner.kind {
            DurationExprKind::Number(number) => {
                let value = if negate { negated(number.value) } else { number.value };
                self.duration_in_range(span, NumberLiteral { value, ..number }, sign.span)
            }
            _ if negate => {
                Ok(DurationExpr { kind: DurationExprKind::Negate(Box::new(inner)), span })
            }
            _ => Ok(inner),
        }
    }

    fn duration_in_range(
        &self,
        span: Span,
        number: NumberLiteral,
        blame: Span,
    ) -> Result<DurationExpr> {
        if number.value.is_nan() || number.value.abs() > MAX_SECONDS {
            return Err(self.error(blame, "duration out of range"));
        }
        Ok(DurationExpr { kind: DurationExprKind::Number(number), span })
    }
}
