package devserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
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

// internalPorts picks n free ports on 127.0.0.1 for the services nobody configures. They lie below the range from
// which Linux (32768) and BSD (49152) take the local ports of outgoing connections: a port from that range may be gone
// before Temporal binds to it.
func internalPorts(n int) ([]int, error) {
	const low, high = 20000, 32000
	var ports []int
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range 50 * n {
		port := low + rand.IntN(high-low) //nolint:gosec // no secret: a place to start looking for a free port
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		held = append(held, l)
		ports = append(ports, port)
		if len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports between %d and %d on 127.0.0.1 for Temporal's internal services", n, low, high)
}
