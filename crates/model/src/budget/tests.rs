use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use super::*;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll(admission: &mut Admission, woken: &Arc<Woken>) -> Poll<Result<Budget, BudgetExceeded>> {
    let waker = Waker::from(Arc::clone(woken));
    pin!(admission).poll(&mut Context::from_waker(&waker))
}

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait_for(mut admission: Admission) -> Budget {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match pin!(&mut admission).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(share) => return share.unwrap(),
            Poll::Pending => std::thread::park(),
        }
    }
}

fn admitted(admission: &mut Admission) -> Budget {
    match poll(admission, &Arc::default()) {
        Poll::Ready(share) => share.unwrap(),
        Poll::Pending => panic!("still waiting"),
    }
}

#[test]
fn reservations_share_the_limit_and_give_back() {
    let budget = Budget::new(100);
    let mut a = budget.reserve("a");
    let mut b = budget.reserve("b");
    a.grow(60).unwrap();
    let refused = b.grow(50).unwrap_err();
    assert_eq!((refused.used, refused.limit), (60, 100));
    drop(a);
    b.grow(50).unwrap();
    assert_eq!((budget.used(), budget.peak()), (50, 60));
}

#[test]
fn a_share_is_held_from_the_start_and_may_grow() {
    let budget = Budget::new(100);
    let share = admitted(&mut budget.share("a query", 40));
    assert_eq!((budget.used(), share.used(), share.limit()), (40, 0, 100));
    let mut inside = share.reserve("inside");
    inside.grow(30).unwrap();
    assert_eq!((budget.used(), share.used()), (40, 30));
    inside.grow(30).unwrap();
    assert_eq!((budget.used(), share.used()), (60, 60));
    let refused = inside.grow(50).unwrap_err();
    assert_eq!((refused.wanted, refused.used, share.refused()), (50, 60, Some(110)));
    inside.shrink(40);
    assert_eq!((budget.used(), share.used(), share.peak()), (40, 20, 60));
    assert!(share.ensure("more", 101).is_err() && share.ensure("more", 50).is_ok());
    assert_eq!((budget.used(), share.refused()), (50, Some(110)));
    drop(share);
    assert_eq!(budget.used(), 50);
    drop(inside);
    assert_eq!((budget.used(), budget.peak()), (0, 60));
}

#[test]
fn what_is_set_aside_lowers_the_limit() {
    let budget = Budget::new(100);
    budget.set_aside("a cache", 30).unwrap();
    assert_eq!((budget.limit(), budget.used()), (70, 0));
    assert_eq!(budget.set_aside("another", 71).unwrap_err().limit, 70);
    assert_eq!(admitted(&mut budget.share("a query", 70)).limit(), 70);
}

#[test]
fn more_than_the_whole_budget_is_refused_at_once() {
    let budget = Budget::new(100);
    let mut admission = budget.share("a query", 101);
    let Poll::Ready(Err(refused)) = poll(&mut admission, &Arc::default()) else { panic!() };
    assert_eq!((refused.wanted, refused.limit), (101, 100));
}

#[test]
fn requests_wait_in_the_order_in_which_they_came() {
    let budget = Budget::new(100);
    let first = admitted(&mut budget.share("first", 70));
    let (mut large, mut small) = (budget.share("large", 80), budget.share("small", 10));
    let [of_large, of_small] = [(); 2].map(|()| Arc::new(Woken::default()));
    assert!(poll(&mut large, &of_large).is_pending());
    // there is room for it, but it came later
    assert!(poll(&mut small, &of_small).is_pending());
    drop(first);
    assert_eq!((of_large.times(), of_small.times()), (1, 0));
    let Poll::Ready(Ok(held)) = poll(&mut large, &of_large) else { panic!() };
    // who leaves the queue wakes the next
    assert_eq!(of_small.times(), 1);
    let Poll::Ready(Ok(_small)) = poll(&mut small, &of_small) else { panic!() };
    assert_eq!(budget.used(), 90);
    drop(held);
    assert_eq!(budget.used(), 10);
}

#[test]
fn a_request_that_gives_up_lets_the_next_one_pass() {
    let budget = Budget::new(100);
    let _first = admitted(&mut budget.share("first", 70));
    let mut large = budget.share("large", 80);
    let of_small = Arc::new(Woken::default());
    assert!(poll(&mut large, &Arc::default()).is_pending());
    let mut small = budget.share("small", 10);
    assert!(poll(&mut small, &of_small).is_pending());
    drop(large);
    assert_eq!(of_small.times(), 1);
    admitted(&mut small);
}

#[test]
fn threads_that_wait_for_each_other_all_get_their_turn() {
    let budget = Budget::new(100);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (budget, done) = (budget.clone(), &done);
            scope.spawn(move || {
                for round in 0..200 {
                    let least = 20 + (thread * 13 + round * 7) % 80;
                    let mut inside = wait_for(budget.share("a query", least)).reserve("inside");
                    inside.grow(least / 2).unwrap();
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    assert_eq!((done.into_inner(), budget.used()), (8, 0));
    assert!(budget.peak() <= 100);
}

#[test]
fn relief_comes_before_memory_is_granted_again() {
    let budget = Budget::new(1600);
    let sought = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sought);
    budget.relieve_by(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let mut held = budget.reserve("a");
    held.grow(1000).unwrap();
    held.shrink(100);
    held.grow(1).unwrap();
    assert_eq!(sought.load(Ordering::SeqCst), 0, "little was given back");
    held.shrink(900);
    assert_eq!(sought.load(Ordering::SeqCst), 0, "nobody wants more");
    held.grow(1).unwrap();
    held.grow(1).unwrap();
    assert_eq!(sought.load(Ordering::SeqCst), 1);
}
