//! Rows of figures: for people as a table, for programs as lines `BENCH {…}`.

use std::time::{Duration, Instant};

/// All rows, in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

/// Many measurements of one thing.
pub(crate) struct Row {
    group: &'static str,
    what: String,
    /// Under which circumstances.
    on: &'static str,
    /// In microseconds.
    values: Vec<f64>,
    /// Of which row (`what`) it is how many times faster, or slower.
    ratio: Option<(String, f64, &'static str)>,
}

impl Table {
    pub(crate) fn add(&mut self, rows: impl IntoIterator<Item = Row>) {
        self.0.extend(rows);
    }

    pub(crate) fn print(&self) {
        println!(
            "{:<58}{:<20}{:>12}{:>12}   compared",
            "median and 99th percentile, us", "", "p50", "p99"
        );
        let mut group = "";
        for row in &self.0 {
            if row.group != group {
                group = row.group;
                println!("{group}");
            }
            let (p50, p99) = (row.quantile(50), row.quantile(99));
            let compared = row
                .ratio
                .as_ref()
                .map_or(String::new(), |(of, ratio, how)| format!("{ratio:.2} x {how} {of}"));
            println!("  {:<56}{:<20}{p50:>12.2}{p99:>12.2}   {compared}", row.what, row.on);
        }
        for row in &self.0 {
            let (p50, p99) = (row.quantile(50), row.quantile(99));
            let name = format!("{}, {}", row.what, row.on);
            let ratio = row.ratio.as_ref().map_or(String::new(), |(of, ratio, how)| {
                format!(",\"ratio\":{ratio:.3},\"ratio_to\":\"{how} {of}\"")
            });
            println!(
                "BENCH {{\"group\":\"{}\",\"name\":\"{name}\",\"value\":{p50:.3},\"p99\":{p99:.3},\"unit\":\"us\"{ratio}}}",
                row.group
            );
        }
    }
}

impl Row {
    pub(crate) fn micros(group: &'static str, what: impl Into<String>, on: &'static str) -> Self {
        Self { group, what: what.into(), on, values: Vec::new(), ratio: None }
    }

    pub(crate) fn time(&mut self, work: impl FnOnce()) {
        let begin = Instant::now();
        work();
        self.push(begin.elapsed());
    }

    pub(crate) fn push(&mut self, time: Duration) {
        self.push_micros(time.as_secs_f64() * 1e6);
    }

    pub(crate) fn push_micros(&mut self, micros: f64) {
        self.values.push(micros);
    }

    pub(crate) fn faster_than(&mut self, other: &Self) {
        let ratio = other.quantile(50) / self.quantile(50);
        self.ratio = Some((other.what.clone(), ratio, "faster than"));
    }

    /// The measurements are pairs: the middle of their ratios is that of neither's noise.
    pub(crate) fn times_of(&mut self, other: &Self) {
        let mut ratios: Vec<f64> =
            self.values.iter().zip(&other.values).map(|(own, other)| own / other).collect();
        ratios.sort_by(f64::total_cmp);
        self.ratio = Some((other.what.clone(), ratios[ratios.len() / 2], "the time of"));
    }

    fn quantile(&self, percent: usize) -> f64 {
        let mut values = self.values.clone();
        values.sort_by(f64::total_cmp);
        values[(values.len() - 1) * percent / 100]
    }
}
