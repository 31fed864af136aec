# rekey in one static file: no shell, no package, no root. docs/cluster.md tells how it is run.
FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# SQLite is modernc.org/sqlite: no C, so the file is static (deploy/image_test.go builds it by this line).
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o /image/usr/local/bin/rekey ./cmd/rekey
# What a program expects of its machine: authorities to trust, a name for its user, a place for data and for files that
# pass. The data directory is made by whoever runs it, 0700, below /var/lib/rekey.
RUN mkdir -p /image/etc/ssl/certs /image/etc/rekey /image/tmp /image/var/lib/rekey \
	&& cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
	&& printf 'rekey:x:65532:65532:rekey:/var/lib/rekey:/sbin/nologin\n' >/image/etc/passwd \
	&& printf 'rekey:x:65532:\n' >/image/etc/group \
	&& chmod 1777 /image/tmp /image/var/lib/rekey

FROM scratch
COPY --from=build /image/ /
LABEL org.opencontainers.image.title="rekey" \
	org.opencontainers.image.description="Incident response for a key that is out: plan, revoke, replace, prove" \
	org.opencontainers.image.licenses="Apache-2.0" \
	org.opencontainers.image.documentation="docs/cluster.md"
# USER: for who runs it as a user that is not in passwd above, as the compose file may.
ENV REKEY_CONFIG=/etc/rekey/rekey.yaml HOME=/var/lib/rekey USER=rekey
USER 65532:65532
WORKDIR /var/lib/rekey
VOLUME /var/lib/rekey
# 8443: API and webhooks; 9464: metrics and health. A worker has only the second.
EXPOSE 8443 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=6 CMD ["/usr/local/bin/rekey", "healthz", "--url", "http://127.0.0.1:9464/readyz"]
ENTRYPOINT ["/usr/local/bin/rekey"]
CMD ["help"]
