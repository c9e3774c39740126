//! The syntax tree. Every node knows where it stands in the query's text.

use model::Matcher;

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

/// A duration as written: a constant, or arithmetic that is evaluated once the query's step and range are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Duration {
    /// Milliseconds, when the duration is a constant.
    pub millis: Option<i64>,
    /// The arithmetic, when it is not.
    pub expr: Option<Box<DurationExpr>>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub enum DurationExpr {
    /// Seconds; `is_duration` when written `5m`.
    Number(NumberLiteral),
    Step,
    Range,
    Negate(Box<DurationExpr>),
    Plus(Box<DurationExpr>),
    Min(Box<DurationExpr>, Box<DurationExpr>),
    Max(Box<DurationExpr>, Box<DurationExpr>),
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
    /// The `k`, φ or label of those that take one.
    pub param: Option<Box<Expr>>,
    pub grouping: Vec<String>,
    pub without: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Between two vectors only.
    pub matching: Option<VectorMatching>,
    pub return_bool: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Unary {
    pub negate: bool,
    pub expr: Box<Expr>,
}
