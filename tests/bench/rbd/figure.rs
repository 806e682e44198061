//! One figure beside its goal, and how all of them are printed.

use serde::Serialize;
use std::time::Duration;

/// What was measured, what the bare system calls and the programs took for the same, and what it should be.
#[derive(Serialize)]
pub(super) struct Figure {
    what: String,
    unit: &'static str,
    value: f64,
    /// The same kernel work as bare system calls.
    bare: Option<f64>,
    /// The same by programs.
    programs: Option<f64>,
    goal: Option<Goal>,
    is_met: Option<bool>,
}

/// What should not be passed.
#[derive(Clone, Copy, Serialize)]
pub(super) enum Goal {
    /// By the value itself.
    AtMost(f64),
    /// By the value over the bare one.
    Ratio(f64),
    /// By the difference of the value and the bare one.
    Over(f64),
}

impl Figure {
    /// An exact number.
    pub(super) fn count(what: impl Into<String>, unit: &'static str, count: u64, goal: Option<f64>) -> Self {
        Self::new(what.into(), unit, count as f64, None, None, goal.map(Goal::AtMost))
    }

    /// Medians, in milliseconds.
    pub(super) fn time(what: impl Into<String>, value: Duration, bare: Option<Duration>, programs: Option<Duration>, goal: Option<Goal>) -> Self {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        Self::new(what.into(), "ms", ms(value), bare.map(ms), programs.map(ms), goal)
    }

    /// The same number by programs.
    pub(super) fn beside(mut self, programs: u64) -> Self {
        self.programs = Some(programs as f64);
        self
    }

    fn new(what: String, unit: &'static str, value: f64, bare: Option<f64>, programs: Option<f64>, goal: Option<Goal>) -> Self {
        let is_met = goal.and_then(|goal| match goal {
            Goal::AtMost(most) => Some(value <= most),
            Goal::Ratio(most) => Some(value / bare? <= most),
            Goal::Over(most) => Some(value - bare? <= most),
        });
        Self { what, unit, value, bare, programs, goal, is_met }
    }

    fn line(&self) -> String {
        let places = if self.unit == "ms" { 2 } else { 0 };
        let shown = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.places$}"));
        let ratio = self.bare.map_or_else(String::new, |bare| format!("{:.2} x", self.value / bare));
        let goal = match self.goal {
            None => String::new(),
            Some(Goal::AtMost(most)) => format!("<= {most}"),
            Some(Goal::Ratio(most)) => format!("<= {most:.2} x"),
            Some(Goal::Over(most)) => format!("<= {most} ms over"),
        };
        let verdict = self.is_met.map_or("", |is_met| if is_met { "met" } else { "MISSED" });
        format!(
            "{:<58} {:>10} {:<10} {:>9} {:>8} {:>9}  {goal:<13} {verdict}",
            self.what,
            shown(Some(self.value)),
            self.unit,
            shown(self.bare),
            ratio,
            shown(self.programs)
        )
    }
}

/// How figures are printed.
#[derive(PartialEq)]
pub(crate) enum Form {
    /// A table for people, a line as soon as it is known.
    Table,
    /// For programs, all at the end.
    Json,
}

/// What was measured so far.
pub(super) struct Report {
    form: Form,
    figures: Vec<Figure>,
    load: String,
}

impl Report {
    pub(super) fn begin(form: Form) -> Self {
        let load = load();
        if form == Form::Table {
            println!("times are medians of things done in turn, in an emulated machine of two processors; counts are exact");
            println!("load of this machine before: {load}\n");
            println!("{:<58} {:>10} {:<10} {:>9} {:>8} {:>9}  goal", "", "measured", "", "bare", "ratio", "programs");
        }
        Self { form, figures: Vec::new(), load }
    }

    pub(super) fn add(&mut self, figures: impl IntoIterator<Item = Figure>) {
        for figure in figures {
            if self.form == Form::Table {
                println!("{}", figure.line().trim_end());
            }
            self.figures.push(figure);
        }
    }

    pub(super) fn end(self) {
        match self.form {
            Form::Table => println!("\nload of this machine after: {}", load()),
            Form::Json => println!("{}", serde_json::json!({ "figures": self.figures, "load_before": self.load, "load_after": load() })),
        }
    }
}

/// What is done on this machine meanwhile, as the kernel averages it over one, five and fifteen minutes.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
