//! What an engine counts.

/// A page of Prometheus metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Vec<(String, f64)>);

impl Metrics {
    pub(crate) fn parse(page: &str) -> Self {
        let series = page
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(series, value)| Some((series.to_owned(), value.parse().ok()?)));
        Self(series.collect())
    }

    /// The sum of all series of a family whose labels contain a text.
    pub(crate) fn sum(&self, family: &str, label: &str) -> f64 {
        let wanted = self.0.iter().filter(|(series, _)| {
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            name == family && labels.contains(label)
        });
        wanted.map(|(_, value)| value).sum()
    }

    /// Prompt tokens whose keys and values another engine has computed.
    pub(crate) fn transferred(&self) -> f64 {
        self.sum(
            "vllm:prompt_tokens_by_source_total",
            "source=\"external_kv_transfer\"",
        )
    }

    /// The part of the KV cache that is in use, from 0 to 1.
    pub(crate) fn cache_in_use(&self) -> f64 {
        self.sum("vllm:kv_cache_usage_perc", "")
    }

    /// Tokens of answers.
    pub(crate) fn generated(&self) -> f64 {
        self.sum("vllm:generation_tokens_total", "")
    }

    /// Requests that run or wait.
    pub(crate) fn running(&self) -> f64 {
        self.sum("vllm:num_requests_running", "") + self.sum("vllm:num_requests_waiting", "")
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn families_are_told_apart_and_their_series_added() {
        let page = "# TYPE a counter\na_total{source=\"x\",e=\"0\"} 1.0\na_total{source=\"x\",e=\"1\"} 2.0\n\
                    a_total{source=\"y\"} 4.0\na_total_more{source=\"x\"} 8.0\nb 16\n";
        let metrics = Metrics::parse(page);
        assert_eq!(metrics.sum("a_total", "source=\"x\""), 3.0);
        assert_eq!(metrics.sum("a_total", ""), 7.0);
        assert_eq!(metrics.sum("b", ""), 16.0);
        assert_eq!(metrics.sum("c", ""), 0.0);
    }
}
