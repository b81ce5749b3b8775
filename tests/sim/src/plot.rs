//! Draws a report: SVG files for people.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use plotters::prelude::*;

use crate::report::Report;

/// Width and height of a drawing in pixels.
const SIZE: (u32, u32) = (900, 420);

/// One line of a drawing.
struct Curve {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// Draws depth, delay, viewers and recovery into a directory, and says which files.
///
/// # Errors
/// When a file can't be written.
pub fn all(report: &Report, dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let seconds = |of: fn(&crate::world::Sample) -> f64| -> Vec<(f64, f64)> {
        let samples = report.samples.iter();
        samples.map(|s| (to_f64(s.second), of(s))).collect()
    };
    let mut drawings = vec![
        (
            "depth.svg",
            "links from the broadcaster",
            "seconds",
            vec![
                Curve {
                    name: "mean",
                    points: seconds(|s| s.depth_mean),
                },
                Curve {
                    name: "largest",
                    points: seconds(|s| to_f64(s.depth_max)),
                },
            ],
        ),
        (
            "delay.svg",
            "delay from broadcaster to viewer, ms",
            "seconds",
            vec![
                Curve {
                    name: "half of all parts",
                    points: seconds(|s| to_f64(s.delay_p50_ms)),
                },
                Curve {
                    name: "99 of 100 parts",
                    points: seconds(|s| to_f64(s.delay_p99_ms)),
                },
            ],
        ),
        (
            "viewers.svg",
            "viewers",
            "seconds",
            vec![
                Curve {
                    name: "subscribed",
                    points: seconds(|s| to_f64(s.watching)),
                },
                Curve {
                    name: "playing",
                    points: seconds(|s| to_f64(s.playing)),
                },
            ],
        ),
    ];
    if !report.recoveries.is_empty() {
        let points = recovered(report);
        let name = "viewers that play again";
        let curves = vec![Curve { name, points }];
        drawings.push(("recovery.svg", "share of viewers cut off, %", "ms", curves));
    }
    let mut files = Vec::new();
    for (file, title, unit, curves) in drawings {
        let path = dir.join(file);
        draw(&path, title, unit, &curves).with_context(|| format!("drawing {}", path.display()))?;
        files.push(path);
    }
    Ok(files)
}

/// The share of those cut off that play again after so many milliseconds.
fn recovered(report: &Report) -> Vec<(f64, f64)> {
    let back: u64 = report.recoveries.iter().map(|(_, n)| u64::from(*n)).sum();
    let all = back + report.recovery_ms.lost;
    let mut sum = 0;
    let mut points = vec![(0.0, 0.0)];
    for (ms, count) in &report.recoveries {
        sum += u64::from(*count);
        points.push((to_f64(*ms), 100.0 * crate::histogram::ratio(sum, all)));
    }
    points
}

fn draw(path: &Path, title: &str, unit: &str, curves: &[Curve]) -> anyhow::Result<()> {
    // The library's errors can't be kept across threads.
    let failed = |error: &dyn std::fmt::Display| anyhow!("{error}");
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|e| failed(&e))?;
    let largest = |of: fn(&(f64, f64)) -> f64| {
        let points = curves.iter().flat_map(|curve| curve.points.iter().map(of));
        points.fold(1.0, f64::max)
    };
    let (width, height) = (largest(|p| p.0), largest(|p| p.1) * 1.05);
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..width, 0.0..height)
        .map_err(|e| failed(&e))?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(unit).draw().map_err(|e| failed(&e))?;
    for (index, curve) in curves.iter().enumerate() {
        let color = [BLUE, RED, GREEN][index % 3];
        let line = LineSeries::new(curve.points.iter().copied(), color.stroke_width(2));
        chart
            .draw_series(line)
            .map_err(|e| failed(&e))?
            .label(curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    }
    let mut legend = chart.configure_series_labels();
    legend
        .background_style(WHITE.mix(0.8))
        .position(SeriesLabelPosition::UpperLeft)
        .draw()
        .map_err(|e| failed(&e))?;
    area.present().map_err(|e| failed(&e))
}

#[expect(clippy::cast_precision_loss, reason = "for people to look at")]
const fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{scenario::Scenario, world::World};

    #[test]
    fn drawings_are_written_with_their_curves() {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World::new(Scenario {
            nodes: 12,
            duration: "8s".parse().unwrap(),
            join: "1s".parse().unwrap(),
            faults: vec!["crash:30%@5s+1s".parse().unwrap()],
            ..Scenario::default()
        });
        let end = world.end();
        world.run(end, false);
        let mut report = Report::new(&world, 0.0);
        report.recoveries = vec![(100, 2), (700, 1)];

        let files = all(&report, dir.path()).unwrap();

        assert_eq!(files.len(), 4);
        for file in files {
            let svg = std::fs::read_to_string(file).unwrap();
            assert!(svg.contains("<polyline"), "{svg}");
        }
    }
}
