//! Replica dedup on decoded columns: penalty and chain, sample by sample as Thanos and Prometheus choose.

use std::marker::PhantomData;

use crate::column::SampleColumn;

#[cfg(test)]
mod tests;

/// How long the other replica is ignored after the first sample, when no scrape interval is known yet.
const INITIAL_PENALTY_MS: i64 = 5000;

/// Merges the replicas of one series into one: stays with a replica and turns to another only where the first has a
/// gap of more than twice its last step (Thanos' `dedupSeriesIterator`, folded over the replicas from the left).
///
/// With `counter` (`rate`, `irate`, `increase`, `resets`) a replica that lags behind the value last given is raised,
/// so that turning to it shows no reset; its columns must come out of [`CounterStitch`](crate::CounterStitch).
/// The choice depends on where the columns begin: trim them to the selected range before.
pub fn penalty<C: SampleColumn>(mut replicas: Vec<C>, counter: bool) -> C {
    replicas.retain(|r| !r.is_empty());
    if replicas.len() > 1 && replicas.iter().skip(1).all(|r| replicas[0].same_floats(r)) {
        replicas.truncate(1);
    }
    if replicas.len() < 2 {
        return replicas.pop().unwrap_or_default();
    }
    if !counter {
        let mut folded = replicas.remove(0);
        for replica in &replicas {
            folded = run(Pair::new(Leaf::new(&folded, false), Leaf::new(replica, false)));
        }
        return folded;
    }
    // Raising reaches down to every replica, so the pairs must stand on each other instead of running in turn.
    let [a, b, rest @ ..] = &replicas[..] else { unreachable!("two or more replicas are left") };
    let first = Pair::new(Leaf::new(a, true), Leaf::new(b, true));
    if rest.is_empty() {
        return run(first);
    }
    let mut stack: Box<dyn Replica<C> + '_> = Box::new(first);
    for replica in rest {
        stack = Box::new(Pair::new(stack, Leaf::new(replica, true)));
    }
    run(stack)
}

fn run<C: SampleColumn, R: Replica<C>>(mut replica: R) -> C {
    let mut out = C::default();
    while replica.next() {
        replica.emit(&mut out);
    }
    out
}

/// Samples in order of time, of which those yet to come can be raised.
trait Replica<C> {
    /// Moves to the next sample; false when there is none.
    fn next(&mut self) -> bool;
    /// Moves to the first sample at or after `t`, not at all if it stands there; false when there is none.
    fn seek(&mut self, t: i64) -> bool;
    fn time(&self) -> i64;
    /// The value, raised, when it is a float.
    fn float(&self) -> Option<f64>;
    /// Raises from here on so that the present value is not below `last`.
    fn raise_to(&mut self, last: f64);
    /// Appends the present sample.
    fn emit(&mut self, out: &mut C);
}

impl<C, R: Replica<C> + ?Sized> Replica<C> for Box<R> {
    fn next(&mut self) -> bool {
        (**self).next()
    }
    fn seek(&mut self, t: i64) -> bool {
        (**self).seek(t)
    }
    fn time(&self) -> i64 {
        (**self).time()
    }
    fn float(&self) -> Option<f64> {
        (**self).float()
    }
    fn raise_to(&mut self, last: f64) {
        (**self).raise_to(last);
    }
    fn emit(&mut self, out: &mut C) {
        (**self).emit(out);
    }
}

/// One replica's column. `at` is one more than the index of the present sample; 0 before the first.
struct Leaf<'a, C> {
    column: &'a C,
    at: usize,
    emitted: usize,
    raise: f64,
    counter: bool,
}

impl<'a, C: SampleColumn> Leaf<'a, C> {
    fn new(column: &'a C, counter: bool) -> Leaf<'a, C> {
        Leaf { column, at: 0, emitted: 0, raise: 0.0, counter }
    }
}

impl<C: SampleColumn> Replica<C> for Leaf<'_, C> {
    #[inline]
    fn next(&mut self) -> bool {
        self.at += 1;
        self.at <= self.column.len()
    }

    #[inline]
    fn seek(&mut self, t: i64) -> bool {
        self.at = self.at.max(1);
        while self.at <= self.column.len() && self.column.time(self.at - 1) < t {
            self.at += 1;
        }
        self.at <= self.column.len()
    }

    #[inline]
    fn time(&self) -> i64 {
        self.column.time(self.at - 1)
    }

    #[inline]
    fn float(&self) -> Option<f64> {
        self.column.float(self.at - 1).map(|v| v + self.raise)
    }

    #[inline]
    fn raise_to(&mut self, last: f64) {
        if self.counter
            && let Some(v) = self.float()
            && last > v
        {
            self.raise += last - v;
        }
    }

    #[inline]
    fn emit(&mut self, out: &mut C) {
        out.push_from(self.column, self.at - 1, self.raise, self.emitted + 1 == self.at);
        self.emitted = self.at;
    }
}

/// Two replicas as one. `None` in `last_t` is Thanos' minimum timestamp: nothing given yet.
struct Pair<C, A, B> {
    a: A,
    b: B,
    a_valid: bool,
    b_valid: bool,
    last_t: Option<i64>,
    /// Which one gave the present sample.
    last_is_a: bool,
    use_a: bool,
    penalty_a: i64,
    penalty_b: i64,
    column: PhantomData<C>,
}

impl<C: SampleColumn, A: Replica<C>, B: Replica<C>> Pair<C, A, B> {
    fn new(mut a: A, mut b: B) -> Pair<C, A, B> {
        let (a_valid, b_valid) = (a.next(), b.next());
        Pair {
            a,
            b,
            a_valid,
            b_valid,
            last_t: None,
            last_is_a: true,
            use_a: true,
            penalty_a: 0,
            penalty_b: 0,
            column: PhantomData,
        }
    }

    /// The value given last, when it was a float of a replica that goes on.
    fn last_float(&self) -> Option<f64> {
        let valid = if self.use_a { self.a_valid } else { self.b_valid };
        if !valid {
            return None;
        }
        if self.last_is_a { self.a.float() } else { self.b.float() }
    }

    fn choose(&mut self) -> bool {
        let from = self.last_t.map_or(i64::MIN, |t| t.saturating_add(1));
        self.a_valid = self.a_valid && self.a.seek(from.saturating_add(self.penalty_a));
        self.b_valid = self.b_valid && self.b.seek(from.saturating_add(self.penalty_b));
        let a_chosen = match (self.a_valid, self.b_valid) {
            (false, false) => {
                self.use_a = false;
                return false;
            }
            (true, true) => self.a.time() <= self.b.time(),
            (a_valid, _) => a_valid,
        };
        let t = if a_chosen { self.a.time() } else { self.b.time() };
        let both = self.a_valid && self.b_valid;
        let penalty = self.last_t.map_or(INITIAL_PENALTY_MS, |last| 2i64.saturating_mul(t.saturating_sub(last)));
        if a_chosen {
            self.penalty_a = 0;
            self.penalty_b = if both { penalty } else { self.penalty_b };
        } else {
            self.penalty_b = 0;
            self.penalty_a = if both { penalty } else { self.penalty_a };
        }
        (self.use_a, self.last_is_a, self.last_t) = (a_chosen, a_chosen, Some(t));
        true
    }
}

impl<C: SampleColumn, A: Replica<C>, B: Replica<C>> Replica<C> for Pair<C, A, B> {
    fn next(&mut self) -> bool {
        let (last_float, used_a) = (self.last_float(), self.use_a);
        let found = self.choose();
        if found
            && self.use_a != used_a
            && let Some(last) = last_float
        {
            self.raise_to(last);
        }
        found
    }

    fn seek(&mut self, t: i64) -> bool {
        loop {
            let valid = if self.use_a { self.a_valid } else { self.b_valid };
            if valid && self.time() >= t {
                return true;
            }
            if !self.next() {
                return false;
            }
        }
    }

    #[inline]
    fn time(&self) -> i64 {
        if self.use_a { self.a.time() } else { self.b.time() }
    }

    fn float(&self) -> Option<f64> {
        if self.last_is_a { self.a.float() } else { self.b.float() }
    }

    fn raise_to(&mut self, last: f64) {
        if self.a_valid {
            self.a.raise_to(last);
        }
        if self.b_valid {
            self.b.raise_to(last);
        }
    }

    #[inline]
    fn emit(&mut self, out: &mut C) {
        if self.last_is_a { self.a.emit(out) } else { self.b.emit(out) }
    }
}

/// Interleaves all samples of the replicas; of equal times one survives, chosen as Prometheus'
/// `chainSampleIterator` does (it follows Go's heap, so that equal times are resolved alike).
pub fn chain<C: SampleColumn>(mut replicas: Vec<C>) -> C {
    if replicas.len() > 1 && replicas.iter().skip(1).all(|r| replicas[0].same_floats(r)) {
        replicas.truncate(1);
    }
    if replicas.len() < 2 {
        return replicas.pop().unwrap_or_default();
    }
    let mut out = C::default();
    // (index of the replica, index of its present sample); the heap is ordered by the samples' times.
    let mut heap: Vec<(usize, usize)> = Vec::with_capacity(replicas.len());
    let time = |(replica, at): (usize, usize)| replicas[replica].time(at);
    for (i, replica) in replicas.iter().enumerate().skip(1) {
        if !replica.is_empty() {
            heap_push(&mut heap, (i, 0), time);
        }
    }
    let (mut current, mut next_at, mut changed, mut last_t) = (0, 0, true, None);
    loop {
        let here = (current, next_at);
        let has_here = next_at < replicas[current].len();
        if has_here && Some(time(here)) == last_t {
            next_at += 1;
            continue;
        }
        let chosen = match heap.first() {
            None if has_here => here,
            None => break,
            Some(&top) if has_here && time(here) < time(top) => here,
            Some(_) => {
                if has_here {
                    heap_push(&mut heap, here, time);
                }
                changed = true;
                heap_pop(&mut heap, time)
            }
        };
        (current, next_at) = (chosen.0, chosen.1 + 1);
        if Some(time(chosen)) != last_t {
            out.push_from(&replicas[current], chosen.1, 0.0, !changed);
            changed = false;
            last_t = Some(time(chosen));
        }
    }
    out
}

fn heap_push(heap: &mut Vec<(usize, usize)>, item: (usize, usize), time: impl Fn((usize, usize)) -> i64) {
    heap.push(item);
    let mut at = heap.len() - 1;
    while at > 0 {
        let parent = (at - 1) / 2;
        if time(heap[at]) >= time(heap[parent]) {
            break;
        }
        heap.swap(at, parent);
        at = parent;
    }
}

/// The heap must not be empty.
fn heap_pop(heap: &mut Vec<(usize, usize)>, time: impl Fn((usize, usize)) -> i64) -> (usize, usize) {
    let top = heap.swap_remove(0);
    let mut at = 0;
    loop {
        let mut child = 2 * at + 1;
        if child >= heap.len() {
            return top;
        }
        if child + 1 < heap.len() && time(heap[child + 1]) < time(heap[child]) {
            child += 1;
        }
        if time(heap[child]) >= time(heap[at]) {
            return top;
        }
        heap.swap(at, child);
        at = child;
    }
}
