//! The point for tracers is in the binary under its name, and the documents tell the numbers it passes.

use object::{Object as _, ObjectSymbol as _, SymbolKind};
use weir::fold::PROTOCOLS;
use weir_engine::ledger::done::MethodSpace;

const SYMBOL: &str = "weir_request_done";

#[test]
fn the_binary_has_the_point_as_a_function_of_its_own() {
    let bytes = std::fs::read(env!("CARGO_BIN_EXE_weir")).expect("the binary");
    let binary = object::File::parse(&*bytes).expect("an ELF file");
    let found: Vec<_> = binary.symbols().filter(|symbol| symbol.name() == Ok(SYMBOL)).collect();
    assert_eq!(found.len(), 1, "{SYMBOL} is there once");
    assert!(found[0].is_definition() && found[0].kind() == SymbolKind::Text && found[0].size() > 0);
    let at = found[0].address();
    let others = binary.symbols().filter(|symbol| {
        symbol.kind() == SymbolKind::Text && symbol.is_definition() && symbol.address() == at
    });
    // folded with another function, its calls would be seen as ours
    assert_eq!(others.count(), 1, "nothing else is at its address");
}

#[test]
fn the_documents_list_every_method_by_its_number() {
    let text = include_str!("../../../docs/operating.md");
    for (protocol, space) in PROTOCOLS.iter().zip([MethodSpace::Memcached, MethodSpace::Cql]) {
        let listed: Vec<String> =
            protocol.methods.iter().map(|(n, m)| format!("{} {m}", space as usize + n)).collect();
        let row = format!("| {} | {} |", protocol.name, listed.join(", "));
        assert!(text.contains(&row), "docs/operating.md should have the row\n{row}");
    }
}
