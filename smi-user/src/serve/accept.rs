//! What a client accepts: the headers `Accept` and `Accept-Encoding` (RFC 9110, 12.5).

use crate::report::prometheus::Form;

/// One of the ranges in such a header.
struct Range<'a> {
    /// What stands before the parameters, in the client's case.
    name: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// How much it is wanted, 0 (not at all) to 1.
    weight: f32,
}

/// The ranges in `header`. Those with a weight that is no number are left out.
fn ranges(header: &str) -> impl Iterator<Item = Range<'_>> {
    header.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let mut weight = 1.0;
        let mut parameters = Vec::new();
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (key, value) = (key.trim(), value.trim().trim_matches('"'));
            if key.eq_ignore_ascii_case("q") {
                weight = value
                    .parse()
                    .ok()
                    .filter(|weight| (0.0..=1.0).contains(weight))?;
            } else {
                parameters.push((key, value));
            }
        }
        Some(Range {
            name,
            parameters,
            weight,
        })
    })
}

/// The form that a client wants most, by its header `Accept`. Text where it has none, and where it accepts nothing that
/// there is: a client that reads metrics at all reads that.
pub(super) fn form(accept: Option<&str>) -> Form {
    let Some(accept) = accept else {
        return Form::Text;
    };
    let ranges: Vec<Range<'_>> = ranges(accept).collect();
    Form::ALL
        .into_iter()
        // Richest last: of equals, the last is taken.
        .rev()
        .filter_map(|form| {
            // The most specific range that fits a form decides over it.
            let (rank, weight) = ranges
                .iter()
                .filter_map(|range| Some((rank(range, form)?, range.weight)))
                .max_by_key(|(rank, _)| *rank)?;
            // A client that takes anything is a browser or curl: text, then, rather than the richest.
            let rank = if rank == 0 && form == Form::Text {
                1
            } else {
                rank
            };
            (weight > 0.0).then_some((weight, rank.min(2), form))
        })
        .max_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)))
        .map_or(Form::Text, |(_, _, form)| form)
}

/// How specifically `range` means `form`, from 0; `None` if it does not.
fn rank(range: &Range<'_>, form: Form) -> Option<usize> {
    let mut parts = form.content_type().split(';').map(str::trim);
    let name = parts.next()?;
    let (class, _) = name.split_once('/')?;
    if range.name == "*/*" {
        return Some(0);
    }
    if range
        .name
        .strip_suffix("/*")
        .is_some_and(|wanted| wanted.eq_ignore_ascii_case(class))
    {
        return Some(1);
    }
    if !range.name.eq_ignore_ascii_case(name) {
        return None;
    }
    let mut met = 0;
    for (key, own) in parts.filter_map(|part| part.split_once('=')) {
        let wanted = range
            .parameters
            .iter()
            .find(|(wanted, _)| wanted.eq_ignore_ascii_case(key));
        match wanted {
            Some((_, value)) if value.eq_ignore_ascii_case(own) => met += 1,
            Some(_) => return None,
            None => {}
        }
    }
    // Parameters that the form does not have, such as Prometheus's `escaping`, are a matter of names it does not use.
    Some(2 + met)
}

/// Whether a client takes gzip, by its header `Accept-Encoding`.
pub(super) fn gzip(accept_encoding: Option<&str>) -> bool {
    let weight = |name: &str| {
        ranges(accept_encoding?)
            .find(|range| range.name.eq_ignore_ascii_case(name))
            .map(|range| range.weight)
    };
    weight("gzip").or_else(|| weight("*")).unwrap_or(0.0) > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_get_the_form_they_want_most() {
        // What Prometheus 2.42 sends, without and with native histograms, and what 3.x sends.
        const CLASSIC: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        const NATIVE: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        const THIRD: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for (accept, form_wanted) in [
            (CLASSIC, Form::OpenMetrics),
            (NATIVE, Form::Protobuf),
            (THIRD, Form::OpenMetrics),
        ] {
            assert_eq!(form(Some(accept)), form_wanted, "{accept}");
        }
    }

    #[test]
    fn weights_and_wildcards_count() {
        for (accept, wanted) in [
            ("*/*", Form::Text),
            ("", Form::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Form::Text),
            ("application/*", Form::Protobuf),
            ("application/*, text/*;q=0.9", Form::Protobuf),
            ("text/*, application/openmetrics-text;q=0.9", Form::Text),
            ("APPLICATION/OpenMetrics-Text", Form::OpenMetrics),
            (
                "application/openmetrics-text; version=\"1.0.0\"",
                Form::OpenMetrics,
            ),
            ("application/openmetrics-text;version=0.0.1", Form::Text),
            ("application/openmetrics-text;q=0, */*", Form::Text),
            (
                "application/vnd.google.protobuf;q=0, application/*",
                Form::OpenMetrics,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
                Form::Text,
            ),
            ("application/vnd.google.protobuf;q=nonsense", Form::Text),
            (
                "application/openmetrics-text;q=0.3,text/plain;q=0.2",
                Form::OpenMetrics,
            ),
            ("image/png", Form::Text),
            (";;,,=;q", Form::Text),
        ] {
            assert_eq!(form(Some(accept)), wanted, "{accept}");
        }
        assert_eq!(form(None), Form::Text);
    }

    #[test]
    fn gzip_is_used_where_it_is_taken() {
        for (accept, taken) in [
            (Some("gzip"), true),
            (Some("deflate, GZIP;q=0.5"), true),
            (Some("*"), true),
            (Some("gzip;q=0, *"), false),
            (Some("identity"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(gzip(accept), taken, "{accept:?}");
        }
    }
}
