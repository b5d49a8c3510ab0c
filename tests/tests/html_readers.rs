//! The HTML report in a browser suits readers and windows of all kinds: narrow ones, keyboards, screen readers, the dark, paper.

use serde_json::{Value, json};
use tests::page::{Shown, keep, picture};

#[test]
fn no_window_is_too_narrow() {
    for mut shown in [Shown::one(), Shown::two()] {
        for width in [360, 540, 541, 640, 800, 801, 1_280, 2_560] {
            shown.browser.look(width, "light");
            let wide = shown.browser.value("document.documentElement.scrollWidth");
            assert!(wide.as_u64() <= Some(width.into()), "{width}: {wide}");
            let charts = shown.browser.value(
                "[...document.querySelectorAll('svg.chart')].filter(e => e.checkVisibility()).length",
            );
            let beside = usize::from(shown.summaries.len() > 1);
            assert_eq!(charts, 3 * shown.summaries.len() + beside, "{width}");
            // Words stay within their chart, and are large enough to be read.
            let bad = shown.browser.value(
                "[...document.querySelectorAll('svg.chart')].filter(e => e.checkVisibility()).flatMap(svg => { \
                   const box = svg.getBoundingClientRect(); \
                   return [...svg.querySelectorAll('text')].filter(text => { \
                     const at = text.getBoundingClientRect(); \
                     return at.left < box.left - 1 || at.right > box.right + 1 || at.top < box.top - 1 \
                       || at.bottom > box.bottom + 1 || at.height < 10 }).map(text => text.textContent) })",
            );
            assert_eq!(bad, json!([]), "{width}");
            picture(&mut shown, &format!("{width}"));
        }
    }
}

#[test]
fn words_in_charts_do_not_overlap() {
    for mut shown in [Shown::one(), Shown::two()] {
        for width in [360, 540, 640, 801, 1_280] {
            shown.browser.look(width, "light");
            let overlapping = shown.browser.value(
                "[...document.querySelectorAll('svg.chart')].filter(e => e.checkVisibility()).flatMap(svg => { \
                   const all = [...svg.querySelectorAll('text')].map(e => [e.textContent, e.getBoundingClientRect()]); \
                   return all.flatMap(([a, p], i) => all.slice(i + 1).filter(([b, q]) => \
                     p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 3 && q.top < p.bottom - 3) \
                     .map(([b]) => a + ' | ' + b)) })",
            );
            assert_eq!(overlapping, json!([]), "{width}");
        }
    }
}

#[test]
fn charts_have_names_and_gists_for_those_who_cannot_see_them() {
    let mut shown = Shown::two();
    let tree = shown
        .browser
        .call("Accessibility.getFullAXTree", &json!({}));
    let nodes = tree["nodes"].as_array().expect("nodes");
    let role = |role: &'static str| {
        nodes
            .iter()
            .filter(move |node| node["role"]["value"] == role)
    };
    let images: Vec<_> = role("image").collect();
    assert_eq!(images.len(), 7);
    for image in images {
        let (name, gist) = (&image["name"]["value"], &image["description"]["value"]);
        assert!(
            name.as_str().is_some_and(|name| name.contains("aps ")),
            "{image}"
        );
        assert!(gist.as_str().is_some_and(|gist| gist.len() > 60), "{image}");
    }
    let charts = shown
        .browser
        .value("document.querySelectorAll('svg:not([aria-hidden]):not([role=img])').length");
    assert_eq!(charts, 0);
    // Headings in order, one main part, and tables with names.
    let levels = shown
        .browser
        .value("[...document.querySelectorAll('h1,h2,h3,h4')].map(e => +e.tagName[1])");
    let levels: Vec<u64> = levels
        .as_array()
        .expect("headings")
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    assert_eq!(levels[0], 1);
    assert!(
        levels.windows(2).all(|pair| pair[1] <= pair[0] + 1),
        "{levels:?}"
    );
    assert_eq!(role("main").count(), 1);
    for table in role("table") {
        assert!(
            table["name"]["value"]
                .as_str()
                .is_some_and(|name| !name.is_empty()),
            "{table}"
        );
    }
}

#[test]
fn the_keyboard_reaches_everything_and_begins_with_the_way_to_the_content() {
    let mut shown = Shown::one();
    let mut press = |key: &str, code: u32, text: &str| {
        for kind in ["keyDown", "keyUp"] {
            shown.browser.call(
                "Input.dispatchKeyEvent",
                &json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code, "text": if kind == "keyDown" { text } else { "" } }),
            );
        }
        shown.browser.value(
            "(() => { const e = document.activeElement, s = getComputedStyle(e); \
             return [e.tagName, e.className, e.getBoundingClientRect().left, s.outlineStyle] })()",
        )
    };
    let skip = press("Tab", 9, "");
    assert_eq!(
        (&skip[0], &skip[1], &skip[3]),
        (&json!("A"), &json!("skip"), &json!("solid"))
    );
    assert!(skip[2].as_f64() >= Some(0.0), "the link is seen: {skip}");
    assert_eq!(press("Enter", 13, "\r")[0], "MAIN");
    let mut reached = Vec::new();
    for _ in 0..12 {
        let now = press("Tab", 9, "");
        reached.push(now[0].as_str().expect("a tag").to_owned());
    }
    assert!(reached.iter().any(|tag| tag == "SUMMARY"), "{reached:?}");
    assert!(
        reached.iter().any(|tag| tag == "DIV"),
        "tables that scroll: {reached:?}"
    );
}

#[test]
fn dark_mode_is_dark_and_words_stay_readable_in_both() {
    let mut shown = Shown::one();
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        shown.browser.look(1_280, scheme);
        let ground = shown
            .browser
            .value("getComputedStyle(document.body).backgroundColor");
        let ground = luminance(ground.as_str().expect("a colour"));
        let inks = shown.browser.value(
            "['body', '.quiet', '.more', 'figcaption', '.verdict .words', '.over', 'summary'].map(s => \
             getComputedStyle(document.querySelector(s)).color).concat(['text', '.limit-name', '.hardlimit-name'].map(s => \
             getComputedStyle(document.querySelector('.chart ' + s)).fill))",
        );
        for ink in inks.as_array().expect("colours") {
            let ratio = contrast(luminance(ink.as_str().expect("a colour")), ground);
            assert!(ratio >= 4.5, "{scheme}: {ink} has {ratio:.1}");
        }
        // Marks need less (WCAG 2.2, 1.4.11).
        let marks = shown.browser.value(
            "[...document.querySelectorAll('.definitions .ground')].map(e => getComputedStyle(e).fill)",
        );
        for mark in marks.as_array().expect("colours") {
            let ratio = contrast(luminance(mark.as_str().expect("a colour")), ground);
            assert!(ratio >= 3.0, "{scheme}: {mark} has {ratio:.1}");
        }
        grounds.push(ground);
        picture(&mut shown, scheme);
    }
    assert!(grounds[0] > 0.9 && grounds[1] < 0.05, "{grounds:?}");
}

/// Relative luminance of `rgb(r, g, b)` (WCAG 2.2).
fn luminance(colour: &str) -> f64 {
    let parts: Vec<f64> = colour
        .trim_start_matches("rgb(")
        .trim_end_matches(')')
        .split(',')
        .map(|part| {
            let part = part.trim().parse::<f64>().expect("a number") / 255.0;
            if part <= 0.040_45 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        })
        .collect();
    0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
}

fn contrast(a: f64, b: f64) -> f64 {
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn in_print_everything_is_unfolded_and_light() {
    let mut shown = Shown::one();
    shown.browser.look(1_280, "dark");
    shown
        .browser
        .call("Emulation.setEmulatedMedia", &json!({ "media": "print" }));
    let ground = shown
        .browser
        .value("getComputedStyle(document.documentElement).getPropertyValue('--ground')");
    assert_eq!(ground, "#fff");
    let folded = shown.browser.value(
        "[...document.querySelectorAll('details table')].filter(e => !e.checkVisibility({ contentVisibilityAuto: true }) \
         || e.getBoundingClientRect().height < 20).length",
    );
    assert_eq!(folded, 0);
    let printed = shown.browser.call(
        "Page.printToPDF",
        &json!({ "printBackground": true, "preferCSSPageSize": true }),
    );
    let pdf = printed["data"].as_str().expect("base64");
    assert!(pdf.starts_with("JVBERi"), "a PDF begins with %PDF");
    keep(&shown, "print.pdf", pdf);
}
