//! Writing the Prometheus text format as the Python client does.

use std::fmt::Write as _;

use super::histogram::Histogram;

/// A page of metrics in the making.
pub(super) struct Page {
    text: String,
    /// Labels that every series has.
    base: Vec<(&'static str, String)>,
    created: f64,
    /// Whether counters and histograms tell when they began.
    tells_created: bool,
}

impl Page {
    pub(super) fn new(base: Vec<(&'static str, String)>, created: f64, tells_created: bool) -> Self {
        Self {
            text: String::with_capacity(48 * 1024),
            base,
            created,
            tells_created,
        }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    /// Leaves a label out of what follows; [`Self::with`] puts it back.
    pub(super) fn without(&mut self, name: &str) -> Vec<(&'static str, String)> {
        let (out, rest) = std::mem::take(&mut self.base)
            .into_iter()
            .partition(|(label, _)| *label == name);
        self.base = rest;
        out
    }

    pub(super) fn with(&mut self, labels: Vec<(&'static str, String)>) {
        self.base.extend(labels);
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, &[(&[], value)]);
    }

    pub(super) fn gauges(&mut self, name: &str, help: &str, series: &[(&[(&str, &str)], f64)]) {
        self.family(name, help, "gauge");
        for (labels, value) in series {
            self.line(name, labels, *value);
        }
    }

    /// A counter; its name has no `_total`.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.counters(name, help, &[(&[], value)]);
    }

    pub(super) fn counters(&mut self, name: &str, help: &str, series: &[(&[(&str, &str)], f64)]) {
        let total = format!("{name}_total");
        self.family(&total, help, "counter");
        for (labels, value) in series {
            self.line(&total, labels, *value);
        }
        self.begun(name, help, series.iter().map(|(labels, _)| *labels));
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, bounds: &[f64], histogram: &Histogram) {
        self.family(name, help, "histogram");
        let bucket = format!("{name}_bucket");
        for bound in bounds {
            self.line(
                &bucket,
                &[("le", &number(*bound))],
                histogram.below(*bound) as f64,
            );
        }
        let count = histogram.count() as f64;
        self.line(&bucket, &[("le", "+Inf")], count);
        self.line(&format!("{name}_count"), &[], count);
        self.line(&format!("{name}_sum"), &[], histogram.sum());
        self.begun(name, help, std::iter::once(&[][..]));
    }

    /// A gauge whose labels are all there is to know.
    pub(super) fn info(&mut self, name: &str, help: &str, series: &[(Vec<(&str, String)>, f64)]) {
        self.family(name, help, "gauge");
        for (labels, value) in series {
            self.write_line(
                name,
                labels
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect(),
                *value,
            );
        }
    }

    fn begun<'a>(&mut self, name: &str, help: &str, series: impl Iterator<Item = &'a [(&'a str, &'a str)]>) {
        if self.tells_created {
            let name = format!("{name}_created");
            self.family(&name, help, "gauge");
            for labels in series {
                self.line(&name, labels, self.created);
            }
        }
    }

    fn family(&mut self, name: &str, help: &str, kind: &str) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let base = std::mem::take(&mut self.base);
        let all = base
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain(labels.iter().copied())
            .collect();
        self.write_line(name, all, value);
        self.base = base;
    }

    fn write_line(&mut self, name: &str, mut labels: Vec<(&str, &str)>, value: f64) {
        labels.sort_by_key(|(name, _)| *name);
        self.text.push_str(name);
        for (place, (name, value)) in labels.iter().enumerate() {
            let open = if place == 0 { '{' } else { ',' };
            let value = value
                .replace('\\', r"\\")
                .replace('"', "\\\"")
                .replace('\n', r"\n");
            let _ = write!(self.text, "{open}{name}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {}", number(value));
    }
}

/// A number as Go and the Python client write it: large ones with an exponent.
fn number(value: f64) -> String {
    if value.abs() < 1e6 {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let exponent: u32 = exponent.parse().unwrap_or(0);
            format!("{digits}e+{exponent:02}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_in_the_recordings() {
        for (value, text) in [
            (0.0, "0.0"),
            (8.0, "8.0"),
            (0.25, "0.25"),
            (1_795_227_279.3, "1.7952272793e+09"),
            (2_097_152.0, "2.097152e+06"),
            (9299.0, "9299.0"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn labels_are_sorted_and_escaped() {
        let mut page = Page::new(vec![("model_name", "a\"b".to_owned())], 0.0, false);
        page.gauges("x", "h", &[(&[("engine", "0")], 1.0)]);
        assert_eq!(
            page.finish(),
            "# HELP x h\n# TYPE x gauge\nx{engine=\"0\",model_name=\"a\\\"b\"} 1.0\n"
        );
    }
}
