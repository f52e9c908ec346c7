// Loaded into a program, this has the kernel meet names that no kernel has, in place of
// those in the file LACKING: a match, a target, a table or an expression of netfilter is
// then refused by the kernel itself, and the program finds its own words for that.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// netfilter is the first of its socket options.
enum { netfilter = 64 };

// spoil changes the last letter of the names in what goes to the kernel. They are
// there with the zero byte at their end.
static void spoil(char *data, size_t size) {
	char names[256] = "";
	const char *path = getenv("LACKING");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (file < 0)
		return;
	if (read(file, names, sizeof names - 1) < 0)
		names[0] = 0;
	close(file);
	char *rest = names, *name, *hit;
	while ((name = strsep(&rest, ",\n"))) {
		size_t n = strlen(name);
		for (char *at = data; n > 0 && (hit = memmem(at, data + size - at, name, n + 1)); at = hit + n)
			if (hit == data || hit[-1] < '-')
				hit[n - 1] = '~';
	}
}

// aboutRules tells whether an option is one of iptables or ip6tables.
static int aboutRules(int level, int name) {
	return (level == IPPROTO_IP || level == IPPROTO_IPV6) && name >= netfilter;
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *size) {
	int (*real)(int, int, int, void *, socklen_t *) = dlsym(RTLD_NEXT, "getsockopt");
	if (aboutRules(level, name))
		spoil(value, *size);
	return real(fd, level, name, value, size);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t size) {
	int (*real)(int, int, int, const void *, socklen_t) = dlsym(RTLD_NEXT, "setsockopt");
	char *copy;
	if (!aboutRules(level, name) || !(copy = malloc(size)))
		return real(fd, level, name, value, size);
	memcpy(copy, value, size);
	spoil(copy, size);
	int result = real(fd, level, name, copy, size);
	free(copy);
	return result;
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
	ssize_t (*real)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");
	for (size_t i = 0; i < m->msg_iovlen; i++)
		spoil(m->msg_iov[i].iov_base, m->msg_iov[i].iov_len);
	return real(fd, m, flags);
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t n) {
	ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "sendto");
	spoil((char *)data, size);
	return real(fd, data, size, flags, to, n);
}
