"""What S3 looks like from here: a lean client for uploads. Nothing in this package knows of promises.

s3                      the operations: where to begin reading
calls                   one signed request, and what is learned from a no
errors, stored          what S3 says, and what that means
endpoints               where a bucket is served
credentials, exchange   who we are, renewed in time
body, fence, checksum   the bytes of a request as they are read from an open file, and proofs of them
sigv4                   signatures
pool, http, answers     connections that are kept, and HTTP/1.1: no more of it than S3 speaks
wire                    sockets, TLS and proxies
hub                     many waits in one thread
putter                  a process that puts small files for another one
"""
