package deploy

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func dockerfile(t *testing.T) string {
	t.Helper()
	return read(t, "..", "Dockerfile")
}

// binary is where the image has the program.
func binary(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^ENTRYPOINT \["([^"]+)"\]$`).FindStringSubmatch(dockerfile(t))
	require.NotNil(t, m)
	return m[1]
}

// buildLine is the go build of the Dockerfile: its environment and arguments.
func buildLine(t *testing.T) (env, args []string) {
	t.Helper()
	m := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0) go (build .*)$`).FindStringSubmatch(dockerfile(t))
	require.NotNil(t, m, "the image has no C library")
	quoted := regexp.MustCompile(`"([^"]*)"|(\S+)`)
	for _, w := range quoted.FindAllStringSubmatch(m[2], -1) {
		args = append(args, w[1]+w[2])
	}
	return []string{m[1]}, args
}

func TestImageIsSmallAndNobody(t *testing.T) {
	text := dockerfile(t)
	stages := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(text, -1)
	require.Len(t, stages, 2)
	require.Equal(t, "scratch", stages[1][1])
	version := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(read(t, "..", "go.mod"))[1]
	require.Equal(t, "golang:"+version+"-bookworm", stages[0][1], "the compiler of go.mod")
	_, last, _ := strings.Cut(text, "FROM scratch")
	require.Contains(t, last, "USER 65532:65532")
	require.NotContains(t, last, "RUN ", "there is no shell")
	require.Regexp(t, `(?m)^ENV .*\bHOME=/\S+ .*\bUSER=\S+`, last, "the embedded server ends for a uid without a name")
	require.NotContains(t, text, "\nARG ", "an argument of a build stays in the image's history")
	_, args := buildLine(t)
	require.Contains(t, args, "/image"+binary(t))
	p := loaded(t)
	for _, s := range rekeys(p) {
		require.Contains(t, last, "ENV REKEY_CONFIG="+*s.Environment["REKEY_CONFIG"]+" ", "compose and image read the same file by default")
	}
	health := regexp.MustCompile(`HEALTHCHECK .* CMD (\[.*\])`).FindStringSubmatch(last)
	require.NotNil(t, health)
	require.Equal(t, `["`+strings.Join(p.Services["rekey-worker-1"].HealthCheck.Test[1:], `", "`)+`"]`, health[1])
	ignored := strings.Split(read(t, "..", ".dockerignore"), "\n")
	for _, kept := range []string{".env", "deploy/secrets", "deploy/local"} {
		require.Contains(t, ignored, kept, "secrets would be in a layer")
		require.Regexp(t, `(?m)^/?`+regexp.QuoteMeta(kept), read(t, "..", ".gitignore"))
	}
}

// TestNothingOfTheProgramIsC: without C the linker makes a static file.
func TestNothingOfTheProgramIsC(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if .CgoFiles}}{{.ImportPath}}{{end}}{{if .Error}}{{.Error}}{{end}}", "rekey/cmd/rekey")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	require.NoError(t, err)
	require.Empty(t, strings.TrimSpace(string(out)))
}

// TestImageIsStatic builds the program by the Dockerfile's line, looks into it, and
// runs it in an empty root as the image's user. It compiles everything once more,
// without C, so it has to be asked for.
func TestImageIsStatic(t *testing.T) {
	if os.Getenv("REKEY_TEST_IMAGE") != "1" {
		t.Skip("takes minutes: set REKEY_TEST_IMAGE=1")
	}
	env, args := buildLine(t)
	root := t.TempDir()
	for i, a := range args {
		args[i] = strings.Replace(a, "/image/", root+"/", 1)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir, cmd.Env = "..", append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	f, err := elf.Open(filepath.Join(root, binary(t)))
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	for _, p := range f.Progs {
		require.NotEqual(t, elf.PT_INTERP, p.Type, "it needs a dynamic loader")
	}
	libs, err := f.ImportedLibraries()
	require.NoError(t, err)
	require.Empty(t, libs)
	if os.Geteuid() != 0 {
		t.Skip("static; running it in an empty root takes root")
	}
	require.NoError(t, os.Chmod(root, 0o555))
	run := exec.CommandContext(t.Context(), "setpriv", "--reuid=65532", "--regid=65532", "--clear-groups", "--no-new-privs", // as the compose file does
		"unshare", "--map-current-user", "--mount", "--root="+root, binary(t), "version", "--json")
	out, err = run.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "rekey.version/v1")
}
