//! Plots as SVG text: lines over a linear or logarithmic axis. Colours come from the page, which knows light and dark.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Lines in one coordinate system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// Above it.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// At most as many as there are colours, 8; the rest share them.
    pub series: Vec<Series>,
}

/// One direction of a plot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// What it counts.
    pub name: String,
    /// How distances follow from numbers.
    pub scale: Scale,
}

/// How distances follow from numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Equal differences are equally far; zero is on the axis.
    Linear,
    /// Equal ratios are equally far; only what is above zero is drawn.
    Log,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// In the order in which they are joined.
    pub points: Vec<(f64, f64)>,
}

impl Axis {
    /// From zero on.
    #[must_use]
    pub fn linear(name: impl Into<String>) -> Self {
        Self { name: name.into(), scale: Scale::Linear }
    }

    /// In powers of ten.
    #[must_use]
    pub fn log(name: impl Into<String>) -> Self {
        Self { name: name.into(), scale: Scale::Log }
    }
}

impl Series {
    /// A line of this name.
    #[must_use]
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points }
    }
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
/// Room for numbers and names at the left and bottom, for the legend at the right.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
const COLOURS: usize = 8;

/// One direction, laid out: from numbers to distances.
struct Ruler {
    scale: Scale,
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Ruler {
    fn new(scale: Scale, values: impl Iterator<Item = f64>, (start, end): (f64, f64)) -> Self {
        let drawn = values.filter(|value| value.is_finite() && (scale == Scale::Linear || *value > 0.0));
        let (low, high) =
            drawn.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = match (scale, low <= high) {
            (Scale::Linear, true) => (low.min(0.0), if high > 0.0 { high * 1.05 } else { 1.0 }),
            (Scale::Log, true) if low == high => (low / 2.0, high * 2.0),
            (Scale::Log, true) => (low, high),
            (Scale::Linear, false) => (0.0, 1.0),
            (Scale::Log, false) => (1.0, 10.0),
        };
        Self { scale, low, high, start, end }
    }

    fn place(&self, value: f64) -> Option<f64> {
        let part = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        part.is_finite().then_some(self.start + part * (self.end - self.start))
    }

    /// Round numbers along it.
    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Log => {
                let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
                let steps: &[f64] = if self.high / self.low < 100.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
                all.filter(|tick| *tick >= self.low * 0.999 && *tick <= self.high * 1.001).collect()
            }
            Scale::Linear => {
                let rough = (self.high - self.low) / 5.0;
                let power = 10_f64.powf(rough.log10().floor());
                let step =
                    [1.0, 2.0, 5.0, 10.0].map(|part| part * power).into_iter().find(|step| *step >= rough);
                let step = step.unwrap_or(rough);
                let first = (self.low / step).ceil() as i64;
                let last = (self.high / step).floor() as i64;
                (first..=last).map(|number| number as f64 * step).collect()
            }
        }
    }
}

/// `12k` rather than `12000`.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.3}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Text as it may stand in HTML and SVG.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The plot as an `svg` element.
#[must_use]
pub fn svg(plot: &Plot) -> String {
    let points = || plot.series.iter().flat_map(|series| &series.points);
    let x = Ruler::new(plot.x.scale, points().map(|point| point.0), (LEFT, WIDTH - RIGHT));
    let y = Ruler::new(plot.y.scale, points().map(|point| point.1), (HEIGHT - BOTTOM, TOP));
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        escaped(&plot.title)
    );
    axes(&mut out, plot, &x, &y);
    for (number, series) in plot.series.iter().enumerate() {
        line(&mut out, series, number, &x, &y);
    }
    out.push_str("</svg>\n");
    out
}

/// Writing to a `String` cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => { let _ = writeln!($out, $($text)*); };
}

fn axes(out: &mut String, plot: &Plot, x: &Ruler, y: &Ruler) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for tick in y.ticks() {
        let Some(at) = y.place(tick) else { continue };
        put!(out, r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1}" y2="{at:.1}"/>"#);
        put!(
            out,
            r#"<text class="tick" x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT - 6.0,
            at + 4.0,
            short(tick)
        );
    }
    for tick in x.ticks() {
        let Some(at) = x.place(tick) else { continue };
        put!(out, r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{bottom}"/>"#);
        put!(
            out,
            r#"<text class="tick" x="{at:.1}" y="{}" text-anchor="middle">{}</text>"#,
            bottom + 16.0,
            short(tick)
        );
    }
    put!(
        out,
        r#"<text class="name" x="{}" y="{}" text-anchor="middle">{}</text>"#,
        (LEFT + right) / 2.0,
        HEIGHT - 8.0,
        escaped(&plot.x.name)
    );
    put!(
        out,
        r#"<text class="name" transform="translate(14 {}) rotate(-90)" text-anchor="middle">{}</text>"#,
        (TOP + bottom) / 2.0,
        escaped(&plot.y.name)
    );
}

fn line(out: &mut String, series: &Series, number: usize, x: &Ruler, y: &Ruler) {
    let colour = number % COLOURS;
    let places: Vec<(f64, f64)> =
        series.points.iter().filter_map(|point| Some((x.place(point.0)?, y.place(point.1)?))).collect();
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    put!(out, r#"<polyline class="line c{colour}" points="{}"/>"#, path.join(" "));
    for ((at_x, at_y), (value_x, value_y)) in places.iter().zip(&series.points) {
        put!(
            out,
            r#"<circle class="dot c{colour}" cx="{at_x:.1}" cy="{at_y:.1}" r="3"><title>{}: {} at {}</title></circle>"#,
            escaped(&series.name),
            short(*value_y),
            short(*value_x)
        );
    }
    let (left, top) = (WIDTH - RIGHT + 12.0, TOP + 14.0 + 18.0 * number as f64);
    put!(out, r#"<rect class="dot c{colour}" x="{left}" y="{}" width="10" height="10"/>"#, top - 9.0);
    put!(out, r#"<text class="tick" x="{}" y="{top}">{}</text>"#, left + 16.0, escaped(&series.name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_axis_has_powers_of_ten_and_places_them_evenly() {
        let ruler = Ruler::new(Scale::Log, [10.0, 100_000.0, 0.0].into_iter(), (0.0, 400.0));
        assert_eq!(
            ruler.ticks().iter().map(|tick| short(*tick)).collect::<Vec<_>>(),
            ["10", "100", "1k", "10k", "100k"]
        );
        assert_eq!(
            [10.0, 1_000.0, 100_000.0].map(|value| ruler.place(value).map(f64::round)),
            [Some(0.0), Some(200.0), Some(400.0)]
        );
        assert_eq!(ruler.place(0.0), None);
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_has_round_numbers() {
        let ruler = Ruler::new(Scale::Linear, [3.0, 10.0].into_iter(), (0.0, 105.0));
        assert_eq!(ruler.ticks(), [0.0, 5.0, 10.0]);
        assert_eq!(ruler.place(10.0), Some(100.0));
    }

    #[test]
    fn a_plot_without_points_or_with_a_single_one_is_drawn_all_the_same() {
        for points in [vec![], vec![(5.0, 0.0)], vec![(f64::NAN, 1.0)]] {
            for (x, y) in [(Axis::log("x"), Axis::linear("y")), (Axis::linear("x"), Axis::log("y"))] {
                let plot =
                    Plot { title: "<&>".to_owned(), x, y, series: vec![Series::new("s", points.clone())] };
                let text = svg(&plot);
                assert!(
                    text.contains("&lt;&amp;&gt;") && !text.contains("NaN") && !text.contains("inf"),
                    "{text}"
                );
            }
        }
    }
}
