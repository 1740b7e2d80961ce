//! Medians, ratios, and the table.

use std::time::Duration;

/// Requests of one measurement of throughput.
pub(crate) const BURST: usize = 1_000;

/// The latencies of a program, and of the program that it is compared with.
pub(crate) struct Ratio {
    name: String,
    median: Duration,
    p99: Duration,
    floor: Duration,
}

impl Ratio {
    pub(crate) fn of(name: &str, latencies: Vec<Duration>, floor: Vec<Duration>) -> Self {
        let (sorted, floor) = (sorted(latencies), sorted(floor));
        let p99 = sorted[sorted.len() * 99 / 100];
        Self { name: name.to_owned(), median: sorted[sorted.len() / 2], p99, floor: floor[floor.len() / 2] }
    }

    fn ratio(&self) -> f64 {
        self.median.as_secs_f64() / self.floor.as_secs_f64()
    }
}

fn sorted(mut latencies: Vec<Duration>) -> Vec<Duration> {
    latencies.sort_unstable();
    latencies
}

/// The figures of a run.
#[derive(Default)]
pub(crate) struct Report(Vec<[String; 6]>, Vec<String>);

impl Report {
    pub(crate) fn compare(&mut self, name: &str, [own, floor]: [Vec<Duration>; 2], target: &str) {
        self.row(Ratio::of(name, own, floor), target);
    }

    pub(crate) fn row(&mut self, ratio: Ratio, target: &str) {
        let times = [ratio.median, ratio.p99, ratio.floor].map(|time| format!("{time:.1?}"));
        let [median, p99, floor] = times;
        let factor = format!("{:.2} ×", ratio.ratio());
        self.push([ratio.name, median, p99, floor, factor, target.to_owned()]);
    }

    pub(crate) fn throughput(&mut self, in_flight: usize, rates: [Vec<Duration>; 2], target: &str) {
        let rate = |elapsed: Vec<Duration>| {
            let elapsed = sorted(elapsed);
            BURST as f64 / elapsed[elapsed.len() / 2].as_secs_f64()
        };
        let [own, floor] = rates.map(rate);
        let name = format!("answers a second, {in_flight} in flight");
        let factor = format!("{:.2} ×", own / floor);
        self.push([
            name,
            format!("{own:.0}"),
            String::new(),
            format!("{floor:.0}"),
            factor,
            target.to_owned(),
        ]);
    }

    pub(crate) fn resident(&mut self, bytes: [u64; 2], target: &str) {
        let [own, floor] = bytes.map(|bytes| bytes as f64 / 1e6);
        let factor = format!("{:.2} ×", own / floor);
        let name = "resident memory afterwards".to_owned();
        self.push([
            name,
            format!("{own:.1} MB"),
            String::new(),
            format!("{floor:.1} MB"),
            factor,
            target.to_owned(),
        ]);
    }

    pub(crate) fn note(&mut self, note: String) {
        println!("{note}");
        self.1.push(note);
    }

    fn push(&mut self, row: [String; 6]) {
        println!("{}", row.join(" | "));
        self.0.push(row);
    }

    /// Prints the table of docs/PERFORMANCE.md.
    pub(crate) fn print(&self, binary: &str) {
        println!(
            "\n| figure | broker, median | p99 | do-nothing | ratio | at most |\n| --- | --- | --- | --- | --- | --- |"
        );
        for row in &self.0 {
            println!("| {} |", row.join(" | "));
        }
        for note in &self.1 {
            println!("\n{note}");
        }
        let size = std::fs::metadata(binary).expect("the binary").len();
        println!("\nThe binary has {:.1} MB.", size as f64 / 1e6);
    }
}
