//! Documents that are small to send and large to read.

const HEAD: &str = "openapi: 3.0.0\ninfo: {title: t, version: '1'}\n";
/// About the largest document that is taken.
const FULL: usize = 32 << 20;

/// Name and bytes of each.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |open: &str| open.repeat(FULL / open.len());
    vec![
        ("deep.json", deep("{\"a\":").into()),
        ("deep-flow.yaml", format!("a: {}", deep("[")).into()),
        ("deep-block.yaml", deep("- ").into()),
        ("wide.json", format!("[1{}]", ",1".repeat(FULL / 2 - 2)).into()),
        ("wide-flow.yaml", format!("{HEAD}x: [a{}]\n", ",a".repeat(FULL / 2 - 100)).into()),
        ("wide-block.yaml", format!("{HEAD}x:\n{}", "- a\n".repeat(FULL / 4 - 100)).into()),
        ("comments.yaml", format!("{HEAD}{}", "# \n".repeat(FULL / 3 - 100)).into()),
        ("long-scalar.yaml", format!("{HEAD}x: {}\n", "a\n ".repeat(FULL / 3 - 100)).into()),
        ("quoted-scalar.yaml", format!("{HEAD}x: \"{}\"\n", "\\n".repeat(FULL / 2 - 100)).into()),
        ("no-end.yaml", format!("{HEAD}x: \"{}", "a ".repeat(FULL / 2 - 100)).into()),
        ("same-keys.yaml", format!("{HEAD}paths:\n{}", "  /a: {}\n".repeat(FULL / 9 - 100)).into()),
        ("laughs.yaml", laughs().into()),
        ("anchors.yaml", format!("{HEAD}x:\n{}", "- &a *a\n".repeat(FULL / 8 - 100)).into()),
        ("merges.yaml", merges().into()),
        ("shared-parameters.json", shared_parameters().into()),
        ("all-of-all.json", all_of_all("allOf").into()),
        ("one-of-all.json", all_of_all("oneOf").into()),
        ("references.json", references().into()),
        ("chain.json", chain().into()),
        ("long-names.json", long_names().into()),
    ]
}

/// Each level names the one before nine times.
fn laughs() -> String {
    let mut text = format!("{HEAD}x0: &x0 {{type: object}}\n");
    for i in 1..200 {
        let inner: Vec<String> = (0..9).map(|j| format!("p{j}: *x{}", i - 1)).collect();
        text += &format!("x{i}: &x{i} {{properties: {{{}}}}}\n", inner.join(", "));
    }
    let uses: String = (0..20_000)
        .map(|i| format!("  /{i}: {{get: {{responses: {{200: {{content: {{a/json: {{schema: *x199}}}}}}}}}}}}\n"))
        .collect();
    format!("{text}paths:\n{uses}")
}

fn merges() -> String {
    let keys: String = (0..5_000).map(|i| format!("k{i}: 1, ")).collect();
    let mut text = format!("{HEAD}m0: &m0 {{{keys}}}\n");
    for i in 1..2_000 {
        text += &format!("m{i}: &m{i} {{<<: [*m{}, *m0], n{i}: 1}}\n", i - 1);
    }
    text
}

fn document(paths: &str, schemas: &str) -> String {
    format!("{{\"openapi\":\"3.0.0\",\"paths\":{{{paths}}},\"components\":{{\"schemas\":{{{schemas}}}}}}}")
}

fn joined(count: usize, part: impl Fn(usize) -> String) -> String {
    (0..count).map(part).collect::<Vec<_>>().join(",")
}

/// Twenty thousand paths that all mean one with two thousand parameters.
fn shared_parameters() -> String {
    let list = joined(2_000, |i| format!("{{\"name\":\"q{i}\",\"in\":\"query\"}}"));
    let refs = joined(19_999, |i| format!("\"/p{i}\":{{\"$ref\":\"#/paths/~1x\"}}"));
    document(&format!("\"/x\":{{\"get\":{{\"parameters\":[{list}],\"responses\":{{}}}}}},{refs}"), "")
}

fn uses(count: usize, schema: &str) -> String {
    joined(count, |i| {
        format!(
            "\"/p{i}\":{{\"get\":{{\"responses\":{{\"200\":{{\"content\":{{\"a/json\":{{\"schema\":{{\"$ref\":\
             \"#/components/schemas/{schema}\"}}}}}}}}}}}}}}"
        )
    })
}

/// Two hundred schemas, each made of all of them.
fn all_of_all(word: &str) -> String {
    let all = joined(200, |j| format!("{{\"$ref\":\"#/components/schemas/S{j}\"}}"));
    let property = |i: usize| format!("\"p{i}\":{{\"$ref\":\"#/components/schemas/S{}\"}}", (i * 7 + 1) % 200);
    let schemas = joined(200, |i| format!("\"S{i}\":{{\"{word}\":[{all}],\"properties\":{{{}}}}}", property(i)));
    document(&uses(15_000, "S0"), &schemas)
}

/// Nearly as many references as are taken, each to another place that is not there.
fn references() -> String {
    document("", &joined(499_000, |i| format!("\"S{i}\":{{\"$ref\":\"#/components/schemas/N{i}/x/y\"}}")))
}

/// Each refers to the next, and the last to the first.
fn chain() -> String {
    let schemas =
        joined(200_000, |i| format!("\"S{i}\":{{\"$ref\":\"#/components/schemas/S{}/a/b/c\"}}", (i + 1) % 200_000));
    document(&uses(10_000, "S0"), &schemas)
}

/// Problems at places whose names are long.
fn long_names() -> String {
    let name = "n".repeat(50_000);
    document(&joined(600, |i| format!("\"/{name}{i}\":{{\"get\":7}}")), "")
}
