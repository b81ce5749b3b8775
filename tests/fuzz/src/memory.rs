//! Counts what a target takes from the heap, so that "bounded" is measured.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system's allocator, which counts for each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes taken and not given back by this thread, and the most there were. Const, and
    /// nothing to drop: an allocator must not allocate.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    HELD.with(|held| {
        let (now, most) = held.get();
        let now = now + bytes;
        held.set((now, most.max(now)));
    });
}

#[expect(unsafe_code, reason = "the trait of allocators is unsafe to implement")]
// SAFETY: every call is passed to the system's allocator as it is, and its result back.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: see above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: see above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: see above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: see above.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Runs `work` and returns the most bytes that this thread held at a time beyond what it
/// held before, with the result.
pub fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.with(|held| {
        let (now, _) = held.get();
        held.set((now, now));
        now
    });
    let result = work();
    let most = HELD.with(|held| held.get().1);
    (usize::try_from(most - before).unwrap_or(0), result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_was_held_at_a_time_is_counted() {
        let (most, kept) = peak(|| {
            drop(std::hint::black_box(vec![0_u8; 100_000]));
            std::hint::black_box(vec![0_u8; 60_000])
        });

        assert!((100_000..160_000).contains(&most), "{most}");
        drop(kept);
    }
}
