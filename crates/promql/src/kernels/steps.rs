//! Sets of steps as bitmaps: bit `k % 64` of word `k / 64` says whether step `k` is in.
//!
//! Bits beyond the last step are zero, so that whole words can be compared and counted. Loops over
//! steps go word by word ([`StepSet::by_word`], [`for_each_bit`]).

/// How many steps a word holds.
pub const WORD_STEPS: usize = 64;

/// A set of steps that owns its words, or borrows them: [`StepsView`] and [`StepsMut`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepSet<W = Vec<u64>>(W);

/// A set to read.
pub type StepsView<'a> = StepSet<&'a [u64]>;

/// A set to change.
pub type StepsMut<'a> = StepSet<&'a mut [u64]>;

/// The number of words of a set over this many steps.
#[inline(always)]
pub const fn words(steps: usize) -> usize {
    steps.div_ceil(WORD_STEPS)
}

/// Calls `f` with the index of every set bit.
#[inline(always)]
pub fn for_each_bit(mut bits: u64, mut f: impl FnMut(usize)) {
    while bits != 0 {
        f(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

#[inline(always)]
fn bit(step: usize) -> u64 {
    1 << (step % WORD_STEPS)
}

/// The word of the steps from `from` on of a set that holds all of `steps`.
#[inline(always)]
pub fn full_word(from: usize, steps: usize) -> u64 {
    let left = steps - from;
    if left >= WORD_STEPS { u64::MAX } else { (1 << left) - 1 }
}

impl StepSet {
    /// The empty set over this many steps.
    pub fn none(steps: usize) -> StepSet {
        StepSet(vec![0; words(steps)])
    }

    /// The set of all of this many steps.
    pub fn all(steps: usize) -> StepSet {
        let mut all = StepSet::none(steps);
        all.fill(steps);
        all
    }
}

impl<'a> StepsView<'a> {
    /// The set that these words are.
    #[inline(always)]
    pub fn of(words: &'a [u64]) -> StepsView<'a> {
        StepSet(words)
    }
}

impl<'a> StepsMut<'a> {
    /// The set that these words are.
    #[inline(always)]
    pub fn of(words: &'a mut [u64]) -> StepsMut<'a> {
        StepSet(words)
    }
}

impl<W: AsRef<[u64]>> StepSet<W> {
    #[inline(always)]
    pub fn words(&self) -> &[u64] {
        self.0.as_ref()
    }

    #[inline(always)]
    pub fn view(&self) -> StepsView<'_> {
        StepSet(self.words())
    }

    pub fn to_set(&self) -> StepSet {
        StepSet(self.words().to_vec())
    }

    #[inline(always)]
    pub fn contains(&self, step: usize) -> bool {
        self.word_at(step) & bit(step) != 0
    }

    pub fn is_empty(&self) -> bool {
        self.words().iter().all(|bits| *bits == 0)
    }

    /// The number of steps in the set.
    pub fn len(&self) -> usize {
        self.words().iter().map(|bits| bits.count_ones() as usize).sum()
    }

    pub fn first(&self) -> Option<usize> {
        let (from, bits) = self.by_word().find(|(_, bits)| *bits != 0)?;
        Some(from + bits.trailing_zeros() as usize)
    }

    /// The word that holds a step.
    #[inline(always)]
    pub fn word_at(&self, step: usize) -> u64 {
        self.words()[step / WORD_STEPS]
    }

    /// The words, each with the step of its first bit.
    #[inline(always)]
    pub fn by_word(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.words().iter().enumerate().map(|(word, bits)| (word * WORD_STEPS, *bits))
    }

    /// Calls `f` with every step in the set.
    #[inline(always)]
    pub fn for_each(&self, mut f: impl FnMut(usize)) {
        for (from, bits) in self.by_word() {
            for_each_bit(bits, |k| f(from + k));
        }
    }

    /// Whether any step is in both.
    pub fn overlaps(&self, other: StepsView<'_>) -> bool {
        self.words().iter().zip(other.words()).any(|(own, other)| own & other != 0)
    }

    /// The steps that are in either.
    pub fn or(&self, other: StepsView<'_>) -> StepSet {
        self.combined(other, |own, other| own | other)
    }

    /// The steps that are in both.
    pub fn and(&self, other: StepsView<'_>) -> StepSet {
        self.combined(other, |own, other| own & other)
    }

    /// The steps that are not in the other.
    pub fn minus(&self, other: StepsView<'_>) -> StepSet {
        self.combined(other, |own, other| own & !other)
    }

    #[inline(always)]
    fn combined(&self, other: StepsView<'_>, f: impl Fn(u64, u64) -> u64) -> StepSet {
        StepSet(
            self.words().iter().zip(other.words()).map(|(own, other)| f(*own, *other)).collect(),
        )
    }
}

impl<'a> IntoIterator for StepsView<'a> {
    type Item = usize;
    type IntoIter = StepIter<'a>;

    fn into_iter(self) -> StepIter<'a> {
        StepIter { words: self.0, from: 0, bits: self.0.first().copied().unwrap_or(0) }
    }
}

/// The steps of a set in order. Loops that run per step are faster with [`StepSet::for_each`].
#[derive(Clone, Debug)]
pub struct StepIter<'a> {
    /// The words from the one on whose bits are left.
    words: &'a [u64],
    from: usize,
    bits: u64,
}

impl Iterator for StepIter<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.bits == 0 {
            self.words = self.words.get(1..)?;
            self.from += WORD_STEPS;
            self.bits = *self.words.first()?;
        }
        let step = self.from + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(step)
    }
}

impl<W: AsRef<[u64]> + AsMut<[u64]>> StepSet<W> {
    #[inline(always)]
    fn words_mut(&mut self) -> &mut [u64] {
        self.0.as_mut()
    }

    #[inline(always)]
    pub fn view_mut(&mut self) -> StepsMut<'_> {
        StepSet(self.words_mut())
    }

    #[inline(always)]
    pub fn insert(&mut self, step: usize) {
        self.words_mut()[step / WORD_STEPS] |= bit(step);
    }

    #[inline(always)]
    pub fn remove(&mut self, step: usize) {
        self.words_mut()[step / WORD_STEPS] &= !bit(step);
    }

    /// Adds the steps of a word whose first bit is step `from`, a multiple of [`WORD_STEPS`].
    #[inline(always)]
    pub fn insert_word(&mut self, from: usize, bits: u64) {
        self.words_mut()[from / WORD_STEPS] |= bits;
    }

    /// Adds all of `steps`.
    pub fn fill(&mut self, steps: usize) {
        for (word, bits) in self.words_mut().iter_mut().enumerate() {
            *bits = full_word(word * WORD_STEPS, steps);
        }
    }

    pub fn clear(&mut self) {
        self.words_mut().fill(0);
    }

    pub fn copy_from(&mut self, other: StepsView<'_>) {
        self.words_mut().copy_from_slice(other.0);
    }

    /// Adds the steps of another set.
    #[inline]
    pub fn add(&mut self, other: StepsView<'_>) {
        self.words_mut().iter_mut().zip(other.0).for_each(|(own, other)| *own |= other);
    }

    /// Keeps only the steps that are also in another set.
    #[inline]
    pub fn keep(&mut self, other: StepsView<'_>) {
        self.words_mut().iter_mut().zip(other.0).for_each(|(own, other)| *own &= other);
    }

    /// Keeps only the steps that are not in another set.
    #[inline]
    pub fn subtract(&mut self, other: StepsView<'_>) {
        self.words_mut().iter_mut().zip(other.0).for_each(|(own, other)| *own &= !other);
    }

    /// Keeps only the steps for which `keep` is true.
    #[inline(always)]
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        for (word, bits) in self.words_mut().iter_mut().enumerate() {
            for_each_bit(*bits, |k| *bits &= !(u64::from(!keep(word * WORD_STEPS + k)) << k));
        }
    }

    /// Keeps only the steps of the words that `keep` returns for the step of their first bit.
    #[inline(always)]
    pub fn retain_by_word(&mut self, mut keep: impl FnMut(usize) -> u64) {
        for (word, bits) in self.words_mut().iter_mut().enumerate() {
            *bits &= keep(word * WORD_STEPS);
        }
    }
}

/// Sets over the same steps, one after the other in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepSets {
    /// The number of words of each set.
    width: usize,
    words: Vec<u64>,
}

impl StepSets {
    /// No sets, over this many steps.
    pub fn new(steps: usize) -> StepSets {
        StepSets { width: words(steps), words: Vec::new() }
    }

    /// This many empty sets.
    pub fn with_len(steps: usize, sets: usize) -> StepSets {
        let mut all = StepSets::new(steps);
        all.resize(sets);
        all
    }

    /// The number of sets; 0 where there are no steps.
    pub fn len(&self) -> usize {
        self.words.len().checked_div(self.width).unwrap_or(0)
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    #[inline(always)]
    pub fn get(&self, set: usize) -> StepsView<'_> {
        StepSet(&self.words[set * self.width..(set + 1) * self.width])
    }

    #[inline(always)]
    pub fn get_mut(&mut self, set: usize) -> StepsMut<'_> {
        StepSet(&mut self.words[set * self.width..(set + 1) * self.width])
    }

    /// Removes sets from the end, or adds empty ones.
    pub fn resize(&mut self, sets: usize) {
        self.words.resize(sets * self.width, 0);
    }

    pub fn reserve_exact(&mut self, sets: usize) {
        self.words.reserve_exact(sets * self.width);
    }

    pub fn push(&mut self, set: StepsView<'_>) {
        self.words.extend_from_slice(set.0);
    }

    /// Moves the sets of `other` here; both are over the same steps.
    pub fn append(&mut self, other: &mut StepSets) {
        self.words.append(&mut other.words);
    }

    /// The words of all sets.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Sets over this many steps with these words.
    pub fn from_words(steps: usize, words: Vec<u64>) -> StepSets {
        StepSets { width: self::words(steps), words }
    }
}

#[cfg(test)]
#[path = "steps/tests.rs"]
mod tests;
