//! `completion`: scripts that let shells complete commands and flags.

use crate::cli::command::{Args, Command, Group, Invocation};
use crate::cli::flags::Flag;
use crate::exit::Outcome;
use crate::output::print;

pub static COMPLETION: Command = Command {
    name: "completion",
    usage: "completion [bash|zsh|fish|powershell]",
    short: "Generate completion script",
    long: "To load completions:

Bash:

  $ source <(etcdctl completion bash)

  # To load completions for each session, execute once:
  # Linux:
  $ etcdctl completion bash > /etc/bash_completion.d/etcdctl
  # macOS:
  $ etcdctl completion bash > /usr/local/etc/bash_completion.d/etcdctl

Zsh:

  # If shell completion is not already enabled in your environment,
  # you will need to enable it.  You can execute the following once:

  $ echo \"autoload -U compinit; compinit\" >> ~/.zshrc

  # To load completions for each session, execute once:
  $ etcdctl completion zsh > \"${fpath[1]}/_etcdctl\"

  # You will need to start a new shell for this setup to take effect.

fish:

  $ etcdctl completion fish | source

  # To load completions for each session, execute once:
  $ etcdctl completion fish > ~/.config/fish/completions/etcdctl.fish

PowerShell:

  PS> etcdctl completion powershell | Out-String | Invoke-Expression

  # To load completions for every new session, run:
  PS> etcdctl completion powershell > etcdctl.ps1
  # and source this file from your PowerShell profile.
",
    group: Some(Group::Utility),
    args: Args::OneOf(&["bash", "zsh", "fish", "powershell"]),
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::EMPTY
};

async fn run(invocation: Invocation) -> Outcome {
    let entries = entries();
    let script = match invocation.args[0].as_slice() {
        b"bash" => bash(&entries),
        b"zsh" => {
            format!("#compdef etcdctl\nautoload -U +X bashcompinit && bashcompinit\n{}", bash(&entries))
        }
        b"fish" => fish(&entries),
        _ => powershell(&entries),
    };
    print(script.as_bytes());
    Ok(())
}

/// Each command's path below the root (`lease grant`), with the words that may follow.
fn entries() -> Vec<(String, Vec<String>)> {
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
    walk(&super::ROOT, String::new(), &[], &mut entries);
    entries
}

fn bash(entries: &[(String, Vec<String>)]) -> String {
    let mut cases = String::new();
    for (path, words) in entries {
        cases += &format!("        \"{path}\") words=\"{}\" ;;\n", words.join(" "));
    }
    format!(
        "# bash completion for etcdctl
_etcdctl() {{
    local current=\"${{COMP_WORDS[COMP_CWORD]}}\" path=\"\" words=\"\" word
    for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do
        case \"$word\" in -*) ;; *) path=\"${{path:+$path }}$word\" ;; esac
    done
    case \"$path\" in
{cases}    esac
    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))
}}
complete -o default -F _etcdctl etcdctl
"
    )
}

fn fish(entries: &[(String, Vec<String>)]) -> String {
    let mut script = String::from(
        "# fish completion for etcdctl
function __etcdctl_at
    set -l words (commandline -opc | string match -v -- '-*')
    test \"$words[2..-1]\" = \"$argv\"
end
complete -c etcdctl -f
",
    );
    for (path, words) in entries {
        script += &format!("complete -c etcdctl -n '__etcdctl_at {path}' -a '{}'\n", words.join(" "));
    }
    script
}

fn powershell(entries: &[(String, Vec<String>)]) -> String {
    let mut cases = String::new();
    for (path, words) in entries {
        cases += &format!("        '{path}' {{ '{}' }}\n", words.join("', '"));
    }
    format!(
        "# PowerShell completion for etcdctl
Register-ArgumentCompleter -Native -CommandName etcdctl -ScriptBlock {{
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
