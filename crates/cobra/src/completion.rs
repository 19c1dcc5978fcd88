//! Scripts that let shells complete commands and flags.

use crate::command::Command;
use crate::flags::Flag;

/// The shells that there are scripts for: what the command `completion` takes.
pub const SHELLS: &[&str] = &["bash", "zsh", "fish", "powershell"];

/// The script for one of [`SHELLS`].
pub fn script(root: &'static Command, shell: &[u8]) -> String {
    let (tool, entries) = (root.name, entries(root));
    match shell {
        b"bash" => bash(tool, &entries),
        b"zsh" => {
            let bash = bash(tool, &entries);
            format!("#compdef {tool}\nautoload -U +X bashcompinit && bashcompinit\n{bash}")
        }
        b"fish" => fish(tool, &entries),
        _ => powershell(tool, &entries),
    }
}

/// Each command's path below the root (`lease grant`), with the words that may follow.
fn entries(root: &'static Command) -> Vec<(String, Vec<String>)> {
    fn walk(command: &Command, path: String, above: &[&Flag], entries: &mut Vec<(String, Vec<String>)>) {
        let above: Vec<&Flag> = above.iter().copied().chain(command.persistent_flags).collect();
        let names = command.subcommands.iter().map(|sub| sub.name.to_owned());
        let flags = command.flags.iter().chain(above.iter().copied()).map(|flag| format!("--{}", flag.name));
        entries.push((path.clone(), names.chain(flags).chain(["--help".to_owned()]).collect()));
        for sub in command.subcommands {
            let path = if path.is_empty() { sub.name.to_owned() } else { format!("{path} {}", sub.name) };
            walk(sub, path, &above, entries);
        }
    }
    let mut entries = Vec::new();
    walk(root, String::new(), &[], &mut entries);
    entries
}

fn bash(tool: &str, entries: &[(String, Vec<String>)]) -> String {
    let mut cases = String::new();
    for (path, words) in entries {
        cases += &format!("        \"{path}\") words=\"{}\" ;;\n", words.join(" "));
    }
    format!(
        "# bash completion for {tool}
_{tool}() {{
    local current=\"${{COMP_WORDS[COMP_CWORD]}}\" path=\"\" words=\"\" word
    for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do
        case \"$word\" in -*) ;; *) path=\"${{path:+$path }}$word\" ;; esac
    done
    case \"$path\" in
{cases}    esac
    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))
}}
complete -o default -F _{tool} {tool}
"
    )
}

fn fish(tool: &str, entries: &[(String, Vec<String>)]) -> String {
    let mut script = format!(
        "# fish completion for {tool}
function __{tool}_at
    set -l words (commandline -opc | string match -v -- '-*')
    test \"$words[2..-1]\" = \"$argv\"
end
complete -c {tool} -f
"
    );
    for (path, words) in entries {
        script += &format!("complete -c {tool} -n '__{tool}_at {path}' -a '{}'\n", words.join(" "));
    }
    script
}

fn powershell(tool: &str, entries: &[(String, Vec<String>)]) -> String {
    let mut cases = String::new();
    for (path, words) in entries {
        cases += &format!("        '{path}' {{ '{}' }}\n", words.join("', '"));
    }
    format!(
        "# PowerShell completion for {tool}
Register-ArgumentCompleter -Native -CommandName {tool} -ScriptBlock {{
    param($current, $ast, $position)
    $path = ($ast.CommandElements | Select-Object -Skip 1 | ForEach-Object {{ \"$_\" }} |
        Where-Object {{ $_ -notlike '-*' -and $_ -ne $current }}) -join ' '
    $words = switch ($path) {{
{cases}    }}
    $words | Where-Object {{ $_ -like \"$current*\" }}
}}
"
    )
}
