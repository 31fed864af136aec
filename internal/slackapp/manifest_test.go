package slackapp_test

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/slack-go/slack"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"rekey/activities/notify/all"
	"rekey/internal/config"
	"rekey/internal/slackapp"
)

func TestManifests(t *testing.T) {
	channel, ok := all.Lookup("slack")
	require.True(t, ok)
	scopes := slices.Concat(slackapp.Scopes(), channel.Descriptor.Permissions)
	slices.Sort(scopes)
	scopes = slices.Compact(scopes)
	for file, socket := range map[string]bool{"manifest.yaml": false, "manifest-socket.yaml": true} {
		t.Run(file, func(t *testing.T) {
			raw, err := os.ReadFile("../../docs/slack/" + file)
			require.NoError(t, err)
			var m slack.Manifest
			d := yaml.NewDecoder(bytes.NewReader(raw))
			d.KnownFields(true)
			require.NoError(t, d.Decode(&m))

			require.Equal(t, scopes, m.OAuthConfig.Scopes.Bot, "what app and channel need, and nothing else; sorted")
			require.Empty(t, m.OAuthConfig.Scopes.User)
			require.LessOrEqual(t, len(m.Display.Name), 35)
			require.LessOrEqual(t, len(m.Display.Description), 140)
			require.Len(t, m.Features.SlashCommands, 1)
			c := m.Features.SlashCommands[0]
			require.Equal(t, slackapp.Command, c.Command)
			require.False(t, c.ShouldEscape, "mentions must not be expanded into ids")
			for _, form := range slackapp.Forms() {
				verb, _, _ := strings.Cut(form, " ")
				require.Contains(t, strings.Split(c.UsageHint, " | "), verb)
			}
			require.Equal(t, socket, m.Settings.SocketModeEnabled)
			require.True(t, m.Settings.Interactivity.IsEnabled)
			if socket {
				require.Empty(t, c.Url)
				require.Empty(t, m.Settings.Interactivity.RequestUrl)
			} else {
				require.Equal(t, "https://HOST/slack/commands", c.Url)
				require.Equal(t, "https://HOST/slack/interactions", m.Settings.Interactivity.RequestUrl)
			}
			require.Nil(t, m.Settings.EventSubscriptions, "rekey reads no messages")
		})
	}
}

func TestTheGuideIsTrue(t *testing.T) {
	raw, err := os.ReadFile("../../docs/slack/README.md")
	require.NoError(t, err)
	guide := strings.ReplaceAll(string(raw), `\|`, "|")
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(guide, -1)
	require.NotEmpty(t, blocks)
	for _, b := range blocks {
		c, err := config.Parse([]byte(b[1]), t.TempDir())
		require.NoError(t, err)
		require.True(t, c.Channels.Slack.Configured())
	}
	for _, form := range slackapp.Forms() {
		verb, _, _ := strings.Cut(form, " ")
		require.Contains(t, guide, "/rekey "+verb)
	}
	for _, said := range []string{"does not know you", "could not ask Slack who you are", "Guests of this workspace can do nothing", "does not accept Slack's word for you"} {
		require.Contains(t, guide, said)
	}
}
