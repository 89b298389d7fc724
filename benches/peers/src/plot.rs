//! The medians as SVG: for each work, operations a second over clients; and over live keys.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::cell::Row;
use crate::engines::ALL;
use crate::report::{groups, median};

const SIZE: (u32, u32) = (720, 440);
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 90, 181),
    RGBColor(120, 170, 230),
    RGBColor(60, 190, 220),
    RGBColor(90, 90, 90),
    RGBColor(220, 120, 0),
    RGBColor(0, 140, 90),
    RGBColor(170, 60, 160),
    RGBColor(200, 30, 40),
    RGBColor(150, 110, 60),
];

/// One engine's line: its points in order.
type Line = (&'static str, Vec<(f64, f64)>);

/// Writes the plots that the rows are enough for.
pub fn draw(rows: &[Row], directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    for work in ["claim", "cycle"] {
        for live_keys in [2_000, 100_000, 1_000_000] {
            let fits = |row: &Row| row.work == work && row.live_keys == live_keys;
            let lines = lines(rows, fits, |row| row.clients as f64);
            let title = format!("{work}: operations a second beside {live_keys} live keys");
            let file = directory.join(format!("{work}-{live_keys}.svg"));
            plot(&file, &title, "clients", &lines)?;
        }
    }
    let sustained = lines(rows, Row::is_sustained, |row| row.live_keys as f64);
    let title = "sustained cycles a second by 64 clients, over live keys";
    plot(
        &directory.join("growth.svg"),
        title,
        "live keys",
        &sustained,
    )
}

fn lines(rows: &[Row], fits: impl Fn(&Row) -> bool, x: impl Fn(&Row) -> f64) -> Vec<Line> {
    let groups = groups(rows);
    let line = |engine: &'static str| {
        let own = groups
            .iter()
            .filter(|g| g[0].engine == engine && fits(g[0]));
        let point = |group: &Vec<&Row>| (x(group[0]), median(group, |row| row.ops_per_s));
        let mut points: Vec<_> = own.map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        (engine, points)
    };
    ALL.into_iter()
        .map(line)
        .filter(|(_, points)| points.len() > 1)
        .collect()
}

/// Both axes logarithmic.
fn plot(file: &Path, title: &str, x_name: &str, lines: &[Line]) -> Result<()> {
    let points = || lines.iter().flat_map(|(_, points)| points);
    if lines.is_empty() {
        return Ok(());
    }
    let span = |values: &dyn Fn(&(f64, f64)) -> f64| {
        let (low, high) = points().fold((f64::MAX, 1.0_f64), |(low, high), point| {
            (low.min(values(point)), high.max(values(point)))
        });
        low * 0.8..high * 1.25
    };
    let draw = || -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(72)
            .build_cartesian_2d(span(&|p| p.0).log_scale(), span(&|p| p.1).log_scale())?;
        chart
            .configure_mesh()
            .x_desc(x_name)
            .light_line_style(WHITE)
            .draw()?;
        for (engine, points) in lines {
            let n = ALL.iter().position(|name| name == engine).unwrap_or(0);
            let style = COLOURS[n].stroke_width(2);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
                .label(*engine)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
        chart
            .configure_series_labels()
            .border_style(BLACK.mix(0.3))
            .background_style(WHITE.mix(0.8))
            .position(SeriesLabelPosition::LowerRight)
            .draw()?;
        area.present()
    };
    draw().map_err(|error| anyhow!("{}: {error}", file.display()))
}
