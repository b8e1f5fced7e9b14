//! Numbers out of an exposition.

/// The sum of the series of this name whose labels hold all of the parts (as `label="value"`, or any piece of it).
pub fn sum(exposition: &str, name: &str, parts: &[&str]) -> f64 {
    of_name(exposition, name)
        .filter(|(labels, _)| parts.iter().all(|part| labels.contains(part)))
        .map(|(_, value)| value)
        .sum()
}

/// The sum of the series of this name that carry all these labels; `None` when there is none.
pub fn sum_of_series(exposition: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut values = of_name(exposition, name).filter_map(|(found, value)| {
        let found = format!(",{found},");
        labels.iter().all(|(label, value)| found.contains(&format!(",{label}=\"{value}\","))).then_some(value)
    });
    let first = values.next()?;
    Some(first + values.sum::<f64>())
}

/// Labels, as they stand between the braces, and value of every series of a name.
fn of_name<'a>(exposition: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    exposition.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        // behind the value an exemplar may follow
        let value = value.split(' ').next().and_then(|value| value.parse().ok());
        Some((labels, value.unwrap_or_else(|| panic!("no number: {line}"))))
    })
}
