//! The picture of the dashboard.

use super::{Area, Drawn, FAINT, GRID, INK, LIMIT, PAPER, heading, text};
use crate::dashboard::{Graph, Line, PERIODS, Shows, Widget};
use plotters::{element::DashedPathElement, prelude::*};
use std::{collections::BTreeMap, path::Path};

/// The size of a cell of CloudWatch's grid.
const CELL: (u32, u32) = (58, 38);
const COLUMNS: u32 = 24;
/// Space for the legend of a graph, and the height of one of its rows.
const LEGEND: i32 = 38;
const LEGEND_ROW: i32 = 15;
/// The time axis has a unit of this many hours, so that its labels do.
const HOURS: u32 = 6;
/// The palette of Okabe and Ito, for colour-blind readers.
const COLORS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(0, 140, 100),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(110, 119, 129),
];

/// Draws all widgets at their places.
pub(crate) fn dashboard(widgets: &[Widget], path: &Path) -> Drawn {
    let rows = widgets.iter().map(|widget| widget.y + widget.height).max().unwrap_or(1);
    let root = SVGBackend::new(path, (COLUMNS * CELL.0, rows * CELL.1)).into_drawing_area();
    root.fill(&PAPER)?;
    for widget in widgets {
        let area = root
            .clone()
            .shrink((widget.x * CELL.0, widget.y * CELL.1), (widget.width * CELL.0, widget.height * CELL.1));
        match &widget.shows {
            Shows::Heading(title) => {
                area.draw(&Text::new(title.as_str(), (14, 9), heading(20.0)))?;
            }
            Shows::Alarms(names) => alarms(&area, names)?,
            Shows::Graph(graph_shown) => graph(&area, graph_shown)?,
        }
    }
    root.present()?;
    Ok(())
}

/// The names only: a metric of a simulation has no alarm.
fn alarms(area: &Area, names: &[String]) -> Drawn {
    area.draw(&Text::new("Alarms", (14, 10), text(17.0, INK)))?;
    let columns = names.len().div_ceil(2).max(1);
    let width = i32::try_from((COLUMNS * CELL.0 - 28) / u32::try_from(columns)?)?;
    for (index, name) in names.iter().enumerate() {
        let (x, y) =
            (14 + width * i32::try_from(index % columns)?, 36 + 34 * i32::try_from(index / columns)?);
        area.draw(&Rectangle::new([(x, y), (x + width - 8, y + 26)], GRID.filled()))?;
        area.draw(&Text::new(name.as_str(), (x + 9, y + 6), text(14.0, INK)))?;
    }
    Ok(())
}

fn graph(area: &Area, graph: &Graph) -> Drawn {
    let (width, height) = area.dim_in_pixel();
    let (width, height) = (i32::try_from(width)?, i32::try_from(height)?);
    area.draw(&Rectangle::new([(4, 4), (width - 4, height - 4)], GRID.stroke_width(1)))?;
    area.draw(&Text::new(graph.title.as_str(), (14, 12), text(16.0, INK)))?;
    legend(area, graph, height - LEGEND)?;
    let (_, below) = area.split_vertically(28);
    let (plot, _) = below.split_vertically(height - 28 - LEGEND);
    let lines: Vec<BTreeMap<u64, f64>> =
        if graph.is_stacked { stacked(&graph.lines) } else { plain(&graph.lines) };
    let top = |on_the_right: bool| {
        let values = graph.lines.iter().zip(&lines).filter(|(line, _)| line.is_on_the_right == on_the_right);
        let values = values.flat_map(|(_, points)| points.values().copied());
        let marks = graph.marks.iter().map(|(_, value)| *value).filter(|_| !on_the_right);
        1.1 * values.chain(marks).fold(1.0, f64::max)
    };
    let (left, right) = (top(false), top(true));
    let has_right = graph.lines.iter().any(|line| line.is_on_the_right);
    let mut chart = ChartBuilder::on(&plot)
        .margin_right(if has_right { 4 } else { 26 })
        .margin_top(6)
        .x_label_area_size(24)
        .y_label_area_size(58)
        .right_y_label_area_size(if has_right { 34 } else { 0 })
        .build_cartesian_2d(0.0..end(), 0.0..left)?
        .set_secondary_coord(0.0..end(), 0.0..right);
    chart
        .configure_mesh()
        .x_labels(5)
        .y_labels(4)
        .x_label_formatter(&|unit| format!("{:02.0}:00", unit * f64::from(HOURS)))
        .y_label_formatter(&|value| compact(*value))
        .light_line_style(GRID.mix(0.0))
        .bold_line_style(GRID)
        .axis_style(FAINT)
        .label_style(text(13.0, FAINT))
        .draw()?;
    if has_right {
        let axes = &mut chart.configure_secondary_axes();
        axes.y_labels(4).y_label_formatter(&|value| compact(*value)).axis_style(FAINT);
        axes.label_style(text(13.0, FAINT)).draw()?;
    }
    for (_, value) in &graph.marks {
        let ends = [(0.0, *value), (end(), *value)];
        chart.draw_series([DashedPathElement::new(ends, 6, 4, LIMIT.stroke_width(1))])?;
    }
    // The sum of all lines is drawn first, so that the parts lie on it.
    for (index, points) in lines.iter().enumerate().rev() {
        let Some(line) = graph.lines.get(index) else { continue };
        let color = color(index, line);
        if graph.is_stacked {
            let mut outline = points_of(points);
            outline.extend([(end(), 0.0), (0.0, 0.0)]);
            chart.draw_series([Polygon::new(outline, color.filled())])?;
            continue;
        }
        for part in parts(points) {
            // A single point is no line.
            let size = if part.len() == 1 { 2 } else { 0 };
            let dots = part.iter().map(|point| Circle::new(*point, size, color.filled())).take(1);
            let path = [PathElement::new(part.clone(), color.stroke_width(2))];
            if line.is_on_the_right {
                chart.draw_secondary_series(dots)?;
                chart.draw_secondary_series(path)?;
            } else {
                chart.draw_series(dots)?;
                chart.draw_series(path)?;
            }
        }
    }
    Ok(())
}

/// A label that is there several times, as for the accounts of two searches, is shown once.
fn legend(area: &Area, graph: &Graph, mut y: i32) -> Drawn {
    let right = i32::try_from(area.dim_in_pixel().0)? - 10;
    let mut x = 16;
    let mut shown = Vec::new();
    let lines = graph.lines.iter().enumerate().map(|(index, line)| (line.label.as_str(), color(index, line)));
    let marks = graph.marks.iter().map(|(label, _)| (label.as_str(), LIMIT));
    for (label, color) in lines.chain(marks) {
        if shown.contains(&label) {
            continue;
        }
        shown.push(label);
        let width = 28 + 7 * i32::try_from(label.len())?;
        if x + width > right {
            (x, y) = (16, y + LEGEND_ROW);
        }
        area.draw(&Rectangle::new([(x, y + 3), (x + 9, y + 12)], color.filled()))?;
        area.draw(&Text::new(label, (x + 13, y), text(13.0, INK)))?;
        x += width;
    }
    Ok(())
}

fn color(index: usize, line: &Line) -> RGBColor {
    if line.is_red { LIMIT } else { COLORS.get(index % COLORS.len()).copied().unwrap_or(INK) }
}

fn plain(lines: &[Line]) -> Vec<BTreeMap<u64, f64>> {
    lines.iter().map(|line| line.points.clone()).collect()
}

/// Each line on the sum of those before it.
fn stacked(lines: &[Line]) -> Vec<BTreeMap<u64, f64>> {
    let mut below = vec![0.0; usize::try_from(PERIODS).unwrap_or_default()];
    let add = |line: &Line| {
        let sums = (0..).zip(&mut below).map(|(period, sum)| {
            *sum += line.points.get(&period).copied().unwrap_or_default();
            (period, *sum)
        });
        sums.collect()
    };
    lines.iter().map(add).collect()
}

fn points_of(points: &BTreeMap<u64, f64>) -> Vec<(f64, f64)> {
    points.iter().map(|(period, value)| (at(*period), *value)).collect()
}

/// The points, cut where a period has no data, as CloudWatch draws them.
fn parts(points: &BTreeMap<u64, f64>) -> Vec<Vec<(f64, f64)>> {
    let mut parts: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut last = None;
    for (period, value) in points {
        let follows = last.is_some_and(|last: u64| last + 1 == *period);
        last = Some(*period);
        let point = (at(*period), *value);
        match parts.last_mut().filter(|_| follows) {
            Some(part) => part.push(point),
            None => parts.push(vec![point]),
        }
    }
    parts
}

#[expect(clippy::cast_precision_loss, reason = "a day has few periods")]
fn at(period: u64) -> f64 {
    end() * period as f64 / PERIODS as f64
}

/// The end of the time axis.
fn end() -> f64 {
    24.0 / f64::from(HOURS)
}

/// 1234567 as 1.2M.
fn compact(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 1e4 => format!("{:.0}k", value / 1e3),
        value if value >= 1e3 => format!("{:.1}k", value / 1e3),
        value if value.fract() < 0.01 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}
