// Package completion makes the scripts with which shells complete qnet's commands, from
// the commands themselves.
package completion

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// Script returns the script for a shell, bash, zsh or fish; ok is false for another one.
func Script(app *cli.App, shell string) (script string, ok bool) {
	switch shell {
	case "bash":
		return bash(app), true
	case "zsh": // which runs the bash script by its compatibility layer
		return "#compdef qnet\nautoload -U +X bashcompinit && bashcompinit\n" + bash(app), true
	case "fish":
		return fish(app), true
	}
	return "", false
}

// visible returns the commands that the help text lists.
func visible(app *cli.App) []*cli.Command {
	var list []*cli.Command
	for _, c := range app.Commands {
		if !c.Hidden {
			list = append(list, c)
		}
	}
	return list
}

// FlagWords returns the flags as a user types them, without the hidden ones.
func FlagWords(flags []cli.Flag) []string {
	var words []string
	for _, f := range flags {
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		for _, n := range f.Names() {
			if len(n) > 1 {
				words = append(words, "--"+n)
			} else {
				words = append(words, "-"+n)
			}
		}
	}
	return words
}

func bash(app *cli.App) string {
	var names, cases strings.Builder
	for _, c := range visible(app) {
		names.WriteString(c.Name + " ")
		fmt.Fprintf(&cases, "\t%s) flags=%q ;;\n", c.Name, strings.Join(FlagWords(c.Flags), " "))
	}
	return fmt.Sprintf(`_qnet() {
	local cur=${COMP_WORDS[COMP_CWORD]} cmd= flags= word
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		case $word in -*) ;; *) cmd=$word; break ;; esac
	done
	case $cmd in
	"") flags=%q ;;
%s	esac
	case $cmd:$cur in
	*:-*) COMPREPLY=($(compgen -W "$flags" -- "$cur")) ;;
	:*) COMPREPLY=($(compgen -W %q -- "$cur")) ;;
	image:*) case $COMP_CWORD in
		2) COMPREPLY=($(compgen -W "ls pull inspect rm prune" -- "$cur")) ;;
		*) COMPREPLY=($(compgen -W "$(qnet image ls 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$cur")) ;;
		esac ;;
	run:*|plan:*) COMPREPLY=($(compgen -f -X '!*.toml' -- "$cur") $(compgen -d -- "$cur") $(compgen -W "$({ qnet ls; qnet image ls; } 2>/dev/null | awk '$1 != "NAME" && !seen[$1]++ { print $1 }')" -- "$cur")) ;;
	check:*|mac:*|doctor:*) COMPREPLY=($(compgen -f -X '!*.toml' -- "$cur") $(compgen -d -- "$cur")) ;;
	start:*|restart:*|rm:*|edit:*) COMPREPLY=($(compgen -W "$(qnet ls 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$cur")) ;;
	stop:*|pause:*|resume:*|suspend:*|console:*|logs:*|ip:*|wait:*|ssh:*|exec:*|view:*|screenshot:*|type:*) COMPREPLY=($(compgen -W "$(qnet ps 2>/dev/null | awk 'NR > 1 && /^[^ ]/ { print $1 }')" -- "$cur")) ;;
	cp:*) COMPREPLY=($(compgen -f -- "$cur") $(compgen -S : -W "$(qnet ps 2>/dev/null | awk 'NR > 1 && /^[^ ]/ { print $1 }')" -- "$cur")) ;;
	snapshot:*) case $COMP_CWORD in
		2) COMPREPLY=($(compgen -W "save ls restore rm" -- "$cur")) ;;
		3) COMPREPLY=($(compgen -W "$(qnet ls 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$cur")) ;;
		esac ;;
	forward:*) case $COMP_CWORD in
		2) COMPREPLY=($(compgen -W "add rm ls" -- "$cur")) ;;
		3) COMPREPLY=($(compgen -W "$(qnet ps 2>/dev/null | awk 'NR > 1 && /^[^ ]/ { print $1 }')" -- "$cur")) ;;
		esac ;;
	service:*) case $COMP_CWORD in
		2) COMPREPLY=($(compgen -W "install remove status" -- "$cur")) ;;
		*) COMPREPLY=($(compgen -f -X '!*.toml' -- "$cur") $(compgen -d -- "$cur") $(compgen -W "$(qnet ls 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$cur")) ;;
		esac ;;
	completion:*) COMPREPLY=($(compgen -W "bash zsh fish" -- "$cur")) ;;
	esac
}
complete -F _qnet qnet
`, strings.Join(FlagWords(app.Flags), " "), cases.String(), strings.TrimSpace(names.String()))
}

func fish(app *cli.App) string {
	var b strings.Builder
	b.WriteString("complete -c qnet -f\n")
	for _, c := range visible(app) {
		fmt.Fprintf(&b, "complete -c qnet -n __fish_use_subcommand -a %s -d %q\n", c.Name, c.Usage)
		for _, word := range FlagWords(c.Flags) {
			option := "-l " + strings.TrimPrefix(word, "--")
			if !strings.HasPrefix(word, "--") {
				option = "-s " + strings.TrimPrefix(word, "-")
			}
			fmt.Fprintf(&b, "complete -c qnet -n '__fish_seen_subcommand_from %s' %s\n", c.Name, option)
		}
	}
	b.WriteString(`complete -c qnet -n '__fish_seen_subcommand_from run plan check mac doctor' -a '(__fish_complete_suffix .toml)'
complete -c qnet -n '__fish_seen_subcommand_from start restart rm edit run plan' -a "(qnet ls 2>/dev/null | awk 'NR > 1 { print \$1 }')"
complete -c qnet -n '__fish_seen_subcommand_from stop pause resume suspend console logs ip wait ssh exec view screenshot type' -a "(qnet ps 2>/dev/null | awk 'NR > 1 && /^[^ ]/ { print \$1 }')"
complete -c qnet -n '__fish_seen_subcommand_from image; and not __fish_seen_subcommand_from ls pull inspect rm prune' -a 'ls pull inspect rm prune'
complete -c qnet -n '__fish_seen_subcommand_from pull inspect rm run plan' -a "(qnet image ls 2>/dev/null | awk 'NR > 1 { print \$1 }')"
complete -c qnet -n '__fish_seen_subcommand_from cp' -F -a "(qnet ps 2>/dev/null | awk 'NR > 1 && /^[^ ]/ { print \$1 \":\" }')"
complete -c qnet -n '__fish_seen_subcommand_from snapshot; and not __fish_seen_subcommand_from save ls restore rm' -a 'save ls restore rm'
complete -c qnet -n '__fish_seen_subcommand_from snapshot; and __fish_seen_subcommand_from save ls restore rm' -a "(qnet ls 2>/dev/null | awk 'NR > 1 { print \$1 }')"
complete -c qnet -n '__fish_seen_subcommand_from forward; and not __fish_seen_subcommand_from add rm ls' -a 'add rm ls'
complete -c qnet -n '__fish_seen_subcommand_from forward; and __fish_seen_subcommand_from add rm ls' -a "(qnet ps 2>/dev/null | awk 'NR > 1 && /^[^ ]/ { print \\$1 }')"
complete -c qnet -n '__fish_seen_subcommand_from service; and not __fish_seen_subcommand_from install remove status' -a 'install remove status'
complete -c qnet -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'
`)
	return b.String()
}
