//! Just enough of PromQL to see which metrics an expression reads, with which labels, and over which range: strings,
//! comments, selectors and function calls are told apart, nothing is evaluated. promtool judges the rest.

/// A metric as an expression reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Selector {
    pub(super) metric: String,
    /// Names of labels matched in its braces.
    pub(super) labels: Vec<String>,
    /// What stands in its square brackets.
    pub(super) range: Option<String>,
    /// The functions around it, innermost last.
    pub(super) inside: Vec<String>,
}

/// Words that stand before a list of labels.
const GROUPING: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Words that are no metric although no bracket follows.
const KEYWORDS: &[&str] = &["and", "or", "unless", "bool", "offset", "atan2", "inf", "nan", "start", "end"];

/// Aggregations may have their grouping before their brackets.
const AGGREGATIONS: &[&str] = &[
    "sum",
    "min",
    "max",
    "avg",
    "group",
    "stddev",
    "stdvar",
    "count",
    "count_values",
    "bottomk",
    "topk",
    "quantile",
];

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let from = self.at;
        while self.peek().is_some_and(&wanted) {
            self.next();
        }
        &self.text[from..self.at]
    }

    fn skip_space(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if self.peek() != Some('#') {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    /// Behind the opening quote; returns what was quoted.
    fn string(&mut self, quote: char) -> &'a str {
        let from = self.at;
        while let Some(c) = self.next() {
            if c == '\\' && quote != '`' {
                self.next();
            } else if c == quote {
                return &self.text[from..self.at - 1];
            }
        }
        &self.text[from..]
    }

    /// Behind `{`: the names of the labels, and the metric when `__name__` is matched exactly.
    fn matchers(&mut self) -> (Vec<String>, Option<String>) {
        let (mut labels, mut metric) = (Vec::new(), None);
        while let Some(c) = self.peek() {
            if is_name_start(c) {
                let label = self.take_while(is_name);
                self.skip_space();
                let exact = self.take_while(|c| "=!~".contains(c)) == "=";
                self.skip_space();
                let value = match self.next() {
                    Some(quote @ ('"' | '\'' | '`')) => self.string(quote),
                    _ => "",
                };
                if label != "__name__" {
                    labels.push(label.to_owned());
                } else if exact {
                    metric = Some(value.to_owned());
                }
            } else {
                self.next();
                match c {
                    '}' => break,
                    '"' | '\'' | '`' => drop(self.string(c)),
                    _ => {}
                }
            }
        }
        (labels, metric)
    }
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '_' | ':')
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':')
}

/// Every metric that `expr` reads, in order.
pub(super) fn selectors(expr: &str) -> Vec<Selector> {
    let mut reader = Reader { text: expr, at: 0 };
    let (mut found, mut calls): (Vec<Selector>, Vec<String>) = (Vec::new(), Vec::new());
    let mut word = String::new();
    loop {
        reader.skip_space();
        let Some(c) = reader.peek() else { return found };
        match c {
            '"' | '\'' | '`' => {
                reader.next();
                reader.string(c);
            }
            // A variable of a dashboard: `$name` or `${name}`; never a metric by itself.
            '$' => {
                reader.next();
                if reader.peek() == Some('{') {
                    reader.take_while(|c| c != '}');
                    reader.next();
                } else {
                    reader.take_while(is_name);
                }
            }
            '0'..='9' => drop(reader.take_while(|c| c.is_ascii_alphanumeric() || c == '.')),
            '(' => {
                reader.next();
                calls.push(std::mem::take(&mut word));
            }
            ')' => {
                reader.next();
                calls.pop();
            }
            '{' => {
                reader.next();
                let (labels, metric) = reader.matchers();
                if let Some(metric) = metric {
                    found.push(Selector { metric, labels, range: None, inside: calls.clone() });
                }
            }
            '[' => {
                reader.next();
                let range = reader.take_while(|c| c != ']').to_owned();
                reader.next();
                // A subquery's range belongs to no selector; a closing bracket stands before it.
                if let Some(last) = found.last_mut()
                    && last.inside == calls
                    && last.range.is_none()
                {
                    last.range = Some(range);
                }
            }
            c if is_name_start(c) => {
                let name = reader.take_while(is_name);
                reader.skip_space();
                let lower = name.to_ascii_lowercase();
                if GROUPING.contains(&lower.as_str()) {
                    if reader.peek() == Some('(') {
                        reader.take_while(|c| c != ')');
                        reader.next();
                    }
                } else if AGGREGATIONS.contains(&lower.as_str()) || reader.peek() == Some('(') {
                    word = name.to_owned();
                } else if !KEYWORDS.contains(&lower.as_str()) {
                    let mut selector = Selector {
                        metric: name.to_owned(),
                        labels: vec![],
                        range: None,
                        inside: calls.clone(),
                    };
                    if reader.peek() == Some('{') {
                        reader.next();
                        selector.labels = reader.matchers().0;
                    }
                    found.push(selector);
                }
            }
            _ => drop(reader.next()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(expr: &str) -> Vec<String> {
        selectors(expr).into_iter().map(|selector| selector.metric).collect()
    }

    #[test]
    fn metrics_are_told_from_functions_and_labels() {
        assert_eq!(
            names("sum by (caller, job) (rate(weir_operations_total[2m]))"),
            ["weir_operations_total"]
        );
        assert_eq!(names("sum(weir_limit) by (caller) > 5e3 or vector(1)"), ["weir_limit"]);
        assert_eq!(
            names("a:b:c / on (job) group_left () sum by (job) (d) and x unless bool y"),
            ["a:b:c", "d", "x", "y"]
        );
        assert_eq!(names("topk by (job) (1, weir_limit_mode == 1)"), ["weir_limit_mode"]);
        assert_eq!(names("label_replace(up, \"mode\", \"unknown\", \"\", \"\") offset 5m"), ["up"]);
        assert_eq!(names("# weir_comment\nmax(weir_x) + Inf"), ["weir_x"]);
    }

    #[test]
    fn labels_and_ranges_belong_to_their_metric() {
        let found =
            selectors(r#"sum(rate(weir_rejected_total{mode!="a}b", caller=~"$caller"}[$__rate_interval]))"#);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].labels, ["mode", "caller"]);
        assert_eq!(found[0].range.as_deref(), Some("$__rate_interval"));
        assert_eq!(found[0].inside, ["sum", "rate"]);
    }

    #[test]
    fn a_subquery_is_no_range_of_the_metric() {
        let found = selectors("max_over_time(sum(weir_x)[5m:1m])");
        assert_eq!((found.len(), found[0].range.as_deref()), (1, None));
    }

    #[test]
    fn a_name_in_braces_counts() {
        assert_eq!(names(r#"{__name__="weir_x",job="y"} + {job="z"}"#), ["weir_x"]);
    }

    #[test]
    fn variables_are_no_metrics() {
        assert_eq!(names("${metric} + $other + weir_x{a=\"${b}\"}"), ["weir_x"]);
    }
}
