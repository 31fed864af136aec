package estate_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rekey/internal/estate"
)

func put(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestTheDirectorySaysWhoCanBeTold(t *testing.T) {
	owners := put(t, "estate.yaml", `keys: []
owners:
  - ref: platform
    language: en
    contacts:
      - {order: 2, channel: webhook, address: "https://hooks.example.com/rekey"}
      - {order: 1, channel: email, address: platform@example.com}
`)
	customers := put(t, "customers.json", `[{"ref":"C033","name":"Acme","language":"en","regimes":["gdpr"],
  "contacts":[{"order":1,"channel":"email","address":"sec@acme.example"}],"keys":["AKIAIOSFODNN7EXAMPLE"],"contract_hours":72}]`)
	d, err := estate.LoadDirectory([]string{owners}, []string{customers})
	require.NoError(t, err)
	o, ok := d.Find("owner", "platform")
	require.True(t, ok)
	require.Equal(t, []estate.Contact{{Order: 1, Channel: "email", Address: "platform@example.com"}, {Order: 2, Channel: "webhook", Address: "https://hooks.example.com/rekey"}}, o.Contacts)
	c, ok := d.Find("customer", "C033")
	require.True(t, ok)
	require.Equal(t, 72, c.ContractHours)
	_, ok = d.Find("owner", "C033")
	require.False(t, ok, "a customer is no owner")
	require.Len(t, d.All(), 2)
	require.NotEmpty(t, d.Digest)

	require.NoError(t, os.WriteFile(customers, []byte(`[]`), 0o600))
	again, err := estate.LoadDirectory([]string{owners}, []string{customers})
	require.NoError(t, err)
	require.NotEqual(t, d.Digest, again.Digest)
	_, err = estate.Load([]string{owners}, []string{customers}, nil)
	require.NoError(t, err, "owners are part of an estate")
}

func TestAMistakeInAContactIsNamedWithItsLine(t *testing.T) {
	const head = "[\n{\"ref\":\"C001\",\"name\":\"x\",\"keys\":[]},\n"
	customers := map[string]struct{ text, want string }{
		"address":         {head + `{"ref":"C033","name":"x","keys":[],"contacts":[{"order":1,"channel":"email","address":"Eve <eve@acme.example>"}]}]`, "customers.json:3: customer 2: C033: contacts[0]: not a mail address"},
		"channel":         {head + `{"ref":"C033","name":"x","keys":[],"contacts":[{"order":1,"channel":"fax","address":"eve@acme.example"}]}]`, "customers.json:3: customer 2: C033: contacts[0]: unknown channel"},
		"order":           {head + `{"ref":"C033","name":"x","keys":[],"contacts":[{"channel":"email","address":"eve@acme.example"}]}]`, "order: 1 is tried first"},
		"order twice":     {head + `{"ref":"C033","name":"x","keys":[],"contacts":[{"order":1,"channel":"email","address":"eve@acme.example"},{"order":1,"channel":"email","address":"eva@acme.example"}]}]`, "order 1 is given twice"},
		"named twice":     {head + `{"ref":"C001","name":"x","keys":[]}]`, "customer C001 is named twice"},
		"address as ref":  {head + `{"ref":"eve@acme.example","name":"x","keys":[]}]`, "ref is not usable"},
		"no ref":          {head + `{"name":"x","keys":[]}]`, "ref is missing"},
		"language":        {head + `{"ref":"C033","name":"x","language":"English!","keys":[]}]`, "such as en"},
		"hours":           {head + `{"ref":"C033","name":"x","contract_hours":-1,"keys":[]}]`, "contract_hours"},
		"hours as text":   {head + `{"ref":"C033","name":"x","contract_hours":"eve@acme.example","keys":[]}]`, "contract_hours: a string does not belong here"},
		"unknown key":     {head + `{"ref":"C033","name":"x","mail":"eve@acme.example","keys":[]}]`, `unknown key "mail"`},
		"no list":         {`{"ref":"C033"}`, "a list of customers is wanted"},
		"not ended":       {`[{"ref":"C033","name":"x","keys":[]}`, "customers.json:1"},
		"something after": {`[] []`, "text after the list"},
	}
	for name, tt := range customers {
		t.Run(name, func(t *testing.T) {
			_, err := estate.Load(nil, []string{put(t, "customers.json", tt.text)}, nil)
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "eve@", "an address belongs to a person")
		})
	}
	owners := map[string]struct{ text, want string }{
		"address":     {"keys: []\nowners:\n  - ref: platform\n    contacts: [{order: 1, channel: email, address: eve}]\n", "estate.yaml:3: owners[0]: platform: contacts[0]: not a mail address"},
		"named twice": {"owners:\n  - ref: platform\n  - ref: platform\n", "estate.yaml:3: owners[1]: owner platform is named twice"},
		"unknown key": {"owners:\n  - ref: platform\n    mail: x\n", `unknown key "mail"`},
		"no ref":      {"owners:\n  - language: en\n", "ref is missing"},
	}
	for name, tt := range owners {
		t.Run("owner "+name, func(t *testing.T) {
			_, err := estate.Load([]string{put(t, "estate.yaml", tt.text)}, nil, nil)
			require.ErrorContains(t, err, tt.want)
		})
	}
}
