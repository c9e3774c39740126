//! The syntax tree. Every node knows its position in the query's text.

use model::Matcher;

use crate::functions::{self, Function};

/// A half-open range of byte offsets in the query's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// The type of an expression's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    Scalar,
    Vector,
    Matrix,
    String,
}

impl ValueType {
    /// As error texts name it.
    pub fn documented(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    Number(NumberLiteral),
    String(StringLiteral),
    Vector(VectorSelector),
    Matrix(MatrixSelector),
    Subquery(Subquery),
    Call(Call),
    Aggregate(Aggregation),
    Binary(Binary),
    Unary(Unary),
    Paren(Box<Expr>),
}

/// A number; `1h30m` as a number is 5400 and prints as a duration again.
#[derive(Clone, Copy, Debug)]
pub struct NumberLiteral {
    pub value: f64,
    pub is_duration: bool,
}

impl PartialEq for NumberLiteral {
    fn eq(&self, other: &NumberLiteral) -> bool {
        self.value.to_bits() == other.value.to_bits() && self.is_duration == other.is_duration
    }
}

/// A string's bytes; escapes such as `\xff` need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringLiteral {
    pub value: Vec<u8>,
}

/// A duration as written: a constant, or arithmetic that is evaluated once the query's step and
/// range are known. [`Duration::resolve`] gives the milliseconds of either.
#[derive(Clone, Debug, PartialEq)]
pub struct Duration {
    /// Milliseconds, when the duration is a plain number or duration.
    pub millis: Option<i64>,
    /// The arithmetic, when it is not.
    pub expr: Option<Box<DurationExpr>>,
    pub span: Span,
}

/// Arithmetic on durations, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationExpr {
    pub kind: DurationExprKind,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum DurationExprKind {
    /// Seconds; `is_duration` when written `5m`.
    Number(NumberLiteral),
    /// `step()`: the step of the query, 0 for instant queries.
    Step,
    /// `range()`: the end of the query minus its start, 0 for instant queries.
    Range,
    Negate(Box<DurationExpr>),
    Min(Box<DurationExpr>, Box<DurationExpr>),
    Max(Box<DurationExpr>, Box<DurationExpr>),
    /// Two durations and an arithmetic operator.
    Binary(BinaryOp, Box<DurationExpr>, Box<DurationExpr>),
    Paren(Box<DurationExpr>),
}

/// `@ <timestamp>`, `@ start()`, `@ end()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Millis(i64),
    Start,
    End,
}

/// `anchored` and `smoothed` selectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    Anchored,
    Smoothed,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// The metric name written before the braces; it is among `matchers` too.
    pub name: Option<String>,
    pub matchers: Vec<Matcher>,
    /// Never the constant 0.
    pub offset: Option<Duration>,
    pub at: Option<At>,
    pub extension: Option<Extension>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSelector {
    pub selector: VectorSelector,
    pub selector_span: Span,
    pub range: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    pub expr: Box<Expr>,
    pub range: Duration,
    pub step: Option<Duration>,
    pub offset: Option<Duration>,
    pub at: Option<At>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The name of a function of the table.
    pub func: &'static str,
    pub args: Vec<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Quantile,
    CountValues,
    Limitk,
    LimitRatio,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Aggregation {
    pub op: AggregateOp,
    pub expr: Box<Expr>,
    /// The `k`, φ or label of aggregations that take one.
    pub param: Option<Box<Expr>>,
    pub grouping: Vec<String>,
    pub without: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    And,
    Or,
    Unless,
    /// `</`: keeps a histogram's observations below a bound.
    TrimUpper,
    /// `>/`: keeps a histogram's observations above a bound.
    TrimLower,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cardinality {
    OneToOne,
    ManyToOne,
    OneToMany,
    ManyToMany,
}

/// `on`/`ignoring`, `group_left`/`group_right` and the fill modifiers.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorMatching {
    pub cardinality: Cardinality,
    /// `on` instead of `ignoring`.
    pub on: bool,
    pub labels: Vec<String>,
    /// Labels that `group_left`/`group_right` copies from the "one" side.
    pub include: Vec<String>,
    pub fill_left: Option<f64>,
    pub fill_right: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub lhs: Box<Expr>,
    pub rhs: Box<Expr>,
    /// Only used between two vectors.
    pub matching: Option<VectorMatching>,
    pub return_bool: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Unary {
    pub negate: bool,
    pub expr: Box<Expr>,
}

impl Expr {
    /// The type of the value that evaluation gives.
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number(_) => ValueType::Scalar,
            ExprKind::String(_) => ValueType::String,
            ExprKind::Vector(_) | ExprKind::Aggregate(_) => ValueType::Vector,
            ExprKind::Matrix(_) | ExprKind::Subquery(_) => ValueType::Matrix,
            ExprKind::Call(call) => call.function().return_type,
            ExprKind::Binary(b) => match (b.lhs.value_type(), b.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            ExprKind::Unary(unary) => unary.expr.value_type(),
            ExprKind::Paren(inner) => inner.value_type(),
        }
    }

    /// The expression inside any parentheses around it.
    pub fn unwrap_parens(&self) -> &Expr {
        let mut expr = self;
        while let ExprKind::Paren(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }
}

impl Call {
    /// The table's entry of the called function.
    pub fn function(&self) -> &'static Function {
        functions::lookup(self.func).expect("the parser calls only functions of the table")
    }
}

impl AggregateOp {
    /// All aggregations, in the order of their declaration.
    pub const ALL: [AggregateOp; 14] = [
        AggregateOp::Sum,
        AggregateOp::Avg,
        AggregateOp::Min,
        AggregateOp::Max,
        AggregateOp::Count,
        AggregateOp::Group,
        AggregateOp::Stddev,
        AggregateOp::Stdvar,
        AggregateOp::Topk,
        AggregateOp::Bottomk,
        AggregateOp::Quantile,
        AggregateOp::CountValues,
        AggregateOp::Limitk,
        AggregateOp::LimitRatio,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Count => "count",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Topk => "topk",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::Quantile => "quantile",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Limitk => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }

    /// The type of the parameter, for aggregations that take one.
    pub fn param_type(self) -> Option<ValueType> {
        use AggregateOp::*;
        match self {
            Topk | Bottomk | Quantile | Limitk | LimitRatio => Some(ValueType::Scalar),
            CountValues => Some(ValueType::String),
            Sum | Avg | Min | Max | Count | Group | Stddev | Stdvar => None,
        }
    }

    pub fn is_experimental(self) -> bool {
        matches!(self, AggregateOp::Limitk | AggregateOp::LimitRatio)
    }
}

impl BinaryOp {
    /// All operators, in the order of their declaration.
    pub const ALL: [BinaryOp; 18] = [
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Mod,
        BinaryOp::Pow,
        BinaryOp::Atan2,
        BinaryOp::Eq,
        BinaryOp::Ne,
        BinaryOp::Gt,
        BinaryOp::Lt,
        BinaryOp::Ge,
        BinaryOp::Le,
        BinaryOp::And,
        BinaryOp::Or,
        BinaryOp::Unless,
        BinaryOp::TrimUpper,
        BinaryOp::TrimLower,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Gt => ">",
            BinaryOp::Lt => "<",
            BinaryOp::Ge => ">=",
            BinaryOp::Le => "<=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
        }
    }

    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Gt | Lt | Ge | Le)
    }

    /// `and`, `or` and `unless`.
    pub fn is_set_operator(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }

    /// From 1, the loosest, to 6; all except `^` associate to the left.
    pub fn precedence(self) -> u8 {
        use BinaryOp::*;
        match self {
            Or => 1,
            And | Unless => 2,
            Eq | Ne | Gt | Lt | Ge | Le | TrimUpper | TrimLower => 3,
            Add | Sub => 4,
            Mul | Div | Mod | Atan2 => 5,
            Pow => 6,
        }
    }
}
