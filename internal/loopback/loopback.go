// Package loopback picks ports of this machine for what nobody configures.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// low and high bound the ports: below the range from which Linux (32768) and BSD
// (49152) take the local ports of outgoing connections. A port from that range may be
// gone before its server binds to it.
const low, high = 20000, 32000

// Ports picks n ports on which nobody listens on 127.0.0.1. They are free again when
// it returns, and another process may take one: whoever can try again should.
func Ports(n int) ([]int, error) {
	var ports []int
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range 50 * n {
		port := low + rand.IntN(high-low) //nolint:gosec // no secret: a place to start looking for a free port
		l, err := net.Listen("tcp", Address(port))
		if err != nil {
			continue
		}
		held = append(held, l)
		ports = append(ports, port)
		if len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports between %d and %d on 127.0.0.1: stop some of the programs that listen there", n, low, high)
}

// Address is host:port.
func Address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
