package cli

import (
	"errors"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rekey/internal/nearest"
)

// plainWord is what may be repeated to the person who typed it. Everything else
// may be a secret in the wrong place.
var plainWord = regexp.MustCompile(`^-{0,2}[a-z][a-z0-9.-]{0,23}$`)

// shown gives a word that was typed, if it is harmless to show.
func shown(word string) string {
	if plainWord.MatchString(word) {
		return `"` + word + `"`
	}
	return "(not shown: it may be a secret)"
}

// suggest offers the nearest of words, or else says what to do.
func suggest(got string, words []string, otherwise string) string {
	if w := nearest.Word(got, words); w != "" {
		return `did you mean "` + w + `"?`
	}
	return otherwise
}

// flagError says what is wrong with a flag, without repeating a value.
func flagError(cmd *cobra.Command, err error) error {
	help := "run `" + cmd.CommandPath() + " --help` for the flags there are"
	var (
		unknown *pflag.NotExistError
		value   *pflag.InvalidValueError
		missing *pflag.ValueRequiredError
	)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return err
	case errors.As(err, &unknown):
		if unknown.GetSpecifiedShortnames() != "" {
			return Usage(help, "unknown short flag for `%s`", cmd.CommandPath())
		}
		name := unknown.GetSpecifiedName()
		if !plainWord.MatchString(name) {
			return Usage(help, "unknown flag %s", shown(name))
		}
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, "--"+f.Name)
			}
		})
		return Usage(suggest("--"+name, names, help), "unknown flag: --%s", name)
	case errors.As(err, &value):
		f := value.GetFlag()
		return Usage("it takes a "+f.Value.Type()+", "+strings.TrimSpace(f.Usage), "--%s cannot take the value %s", f.Name, shown(value.GetValue()))
	case errors.As(err, &missing):
		return Usage(help, "--%s needs a value", missing.GetFlag().Name)
	}
	return Usage(help, "the flags cannot be read")
}

// oneOf is a flag's value out of a fixed set.
type oneOf struct {
	value *string
	words []string
}

func (o oneOf) String() string {
	if o.value == nil {
		return ""
	}
	return *o.value
}

func (o oneOf) Type() string { return strings.Join(o.words, "|") }

func (o oneOf) Set(v string) error {
	for _, w := range o.words {
		if v == w {
			*o.value = v
			return nil
		}
	}
	return errors.New("not one of " + o.Type())
}

// choice adds a flag that takes one of words and completes to them.
func choice(cmd *cobra.Command, value *string, name, usage string, words ...string) {
	cmd.Flags().Var(oneOf{value, words}, name, usage)
	complete(cmd, name, words)
}

func complete(cmd *cobra.Command, name string, words []string) {
	// The only failure is a flag that does not exist: a mistake of this program.
	if err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}
