//! What each part of a packet's way costs in time, alone.
//!
//! `cargo bench --bench packets` measures all, `-- split` what has this in its name. Figures are of one core that does
//! nothing else; what a busy machine can compare is `cargo bench --bench instructions`.

use std::time::Duration;

use criterion::{Bencher, Criterion, Throughput};
use meshnode::lab::Stopwatch;
use meshnode::tunnel::measured::{Work, works};

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    for work in works() {
        let mut group = criterion.benchmark_group("packets");
        group.throughput(Throughput::Elements(work.packets.into()));
        match work.steps_max {
            None => {
                let mut step = work.prepare();
                group.bench_function(work.name, |bencher| bencher.iter(&mut step));
            }
            Some(steps_max) => {
                let measured = |bencher: &mut Bencher<'_>| {
                    bencher.iter_custom(|steps| time(&work, steps, steps_max.into()));
                };
                group.bench_function(work.name, measured);
            }
        }
        group.finish();
    }
    criterion.final_summary();
}

/// How long so many steps take, without the preparations between them.
fn time(work: &Work, mut steps: u64, steps_max: u64) -> Duration {
    let mut taken = Duration::ZERO;
    while steps > 0 {
        let some = steps.min(steps_max);
        let mut step = work.prepare();
        let watch = Stopwatch::start();
        for _ in 0..some {
            step();
        }
        taken += watch.elapsed();
        steps -= some;
    }
    taken
}
