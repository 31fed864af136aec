package devserver

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// listen takes an address that the user configured. what and key make the error useful.
func listen(address, what, key string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	env := "REKEY_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("address %s for %s is taken: stop the program that listens there, or set %s (%s) to another address", address, what, key, env)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("address %s for %s cannot be used on this machine: set %s (%s) to another address", address, what, key, env)
	default:
		return nil, fmt.Errorf("address %s for %s: %w", address, what, err)
	}
}

// frontendAddress checks the configured address, or picks the port when it is 0. Temporal binds to it itself, so it is
// free again when this returns.
func frontendAddress(address string) (string, error) {
	l, err := listen(address, "the Temporal frontend", "listen.temporal")
	if err != nil {
		return "", err
	}
	chosen := l.Addr().String()
	return chosen, l.Close()
}
