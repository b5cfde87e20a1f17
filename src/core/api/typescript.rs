//! Writes www/src/api-types.ts, and checks that it is up to date.

use std::collections::BTreeMap;
use std::path::Path;

use ts_rs::{Config, TS, TypeVisitor};

use super::*;

/// Environment variable that makes the test write the file instead of only comparing it.
const UPDATE: &str = "UPDATE_API_TYPES";

const HEADER: &str = "\
// Types of the admin API, generated from src/core/api by a test of the core. Do not edit; update:
//   UPDATE_API_TYPES=1 cargo test -p hedgerow-core --lib api
";

/// Declarations of the visited types and of all types that they refer to, by name.
struct Declarations {
    config: Config,
    by_name: BTreeMap<String, String>,
}

impl TypeVisitor for Declarations {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        // Lists, maps and numbers have no declaration.
        if T::output_path().is_none() {
            return;
        }
        let name = T::ident(&self.config);
        if !self.by_name.contains_key(&name) {
            let declaration = format_declaration(&T::decl_concrete(&self.config));
            let declaration = format!("{}export {declaration}\n", format_docs("", T::docs()));
            self.by_name.insert(name, declaration);
            T::visit_dependencies(self);
        }
    }
}

/// Puts each member of an object type on a separate line, after the documentation of the member.
fn format_declaration(declaration: &str) -> String {
    let declaration = declaration.replace('"', "'");
    let members = declaration.split_once("{ \n").and_then(|(start, members)| {
        let members = members.strip_suffix(", };")?;
        Some((start, members.split(", \n").map(format_member).collect::<String>()))
    });
    members.map_or(declaration.clone(), |(start, members)| format!("{start}{{\n{members}}};"))
}

fn format_member(member: &str) -> String {
    let (docs, field) = member.rsplit_once('\n').expect("each member has documentation");
    format!("{}  {field};\n", format_docs("  ", Some(docs.to_owned())))
}

/// Formats a comment, on one line if it fits.
fn format_docs(indent: &str, docs: Option<String>) -> String {
    let docs = docs.unwrap_or_default().replace("[`", "`").replace("`]", "`");
    let lines = docs.lines().filter_map(|line| line.strip_prefix(" * ")).collect::<Vec<_>>();
    match lines.as_slice() {
        [] => String::new(),
        [line] if indent.len() + line.len() <= 93 => format!("{indent}/** {line} */\n"),
        lines => {
            let lines: String = lines.iter().map(|line| format!("{indent} * {line}\n")).collect();
            format!("{indent}/**\n{lines}{indent} */\n")
        }
    }
}

#[test]
fn the_consoles_types_are_up_to_date() {
    let config = Config::new().with_large_int("number");
    let mut declarations = Declarations { config, by_name: BTreeMap::new() };
    declarations.visit::<AuditLog>();
    declarations.visit::<BundleList>();
    declarations.visit::<BundleUpload>();
    declarations.visit::<ClusterDetails>();
    declarations.visit::<ClusterList>();
    declarations.visit::<DecisionList>();
    declarations.visit::<DeploymentStatus>();
    declarations.visit::<ErrorBody>();
    declarations.visit::<IndicatorDetails>();
    declarations.visit::<IndicatorList>();
    declarations.visit::<LiveTicket>();
    declarations.visit::<PrincipalsResult>();
    declarations.visit::<PrincipalsUpload>();
    declarations.visit::<PublishResult>();
    declarations.visit::<ReleaseList>();
    declarations.visit::<ReleaseUpload>();
    declarations.visit::<RevokeRequest>();
    declarations.visit::<RevokeResult>();
    declarations.visit::<Series>();
    declarations.visit::<SignedBundle>();
    declarations.visit::<VersionInfo>();
    let declarations: String =
        declarations.by_name.into_values().map(|declaration| format!("\n{declaration}")).collect();
    let expected = format!("{HEADER}{declarations}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../www/src/api-types.ts");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let actual = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        actual == expected,
        "www/src/api-types.ts is out of date: expected the types of src/core/api; run `{UPDATE}=1 \
         cargo test -p hedgerow-core --lib api`"
    );
}
