"""
Finds the audio of a media message without building objects, and wraps it in another message.

The finder returns a span only for messages that every JSON parser reads the same way, and None for all others, which
a full parser reads. It makes one pass over the message, cannot fail, and compares each index with the message's
length before it reads. Paths and values that it cannot search for raise ValueError or TypeError when the finder is
made. `Envelope` does not check its prefix and suffix; lack of memory raises MemoryError.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free
from libc.string cimport memchr, memcmp, memcpy, memset

from _codec.base64_text cimport is_base64_c
from _codec.json_text cimport any_string_end, plain_end

cdef enum:
    MAX_DEPTH = 8
    MAX_DIGITS = 18
    MAX_TEXT_BYTES = 4096

cdef enum Kind:
    PAYLOAD
    EQUAL
    ABSENT_OR_EQUAL
    PARENT

cdef enum Scope:
    OTHER = -2
    TOP = -1

cdef enum Class:
    SPACE = 1
    DIGIT = 2

cdef unsigned char CLASSES[256]
cdef object COPY = object()  # In place of a path: `with_value` fills the finder.


cdef void fill_classes() noexcept nogil:
    cdef int c
    memset(CLASSES, 0, sizeof(CLASSES))
    for c in range(c"0", c"9" + 1):
        CLASSES[c] |= DIGIT
    CLASSES[<int>c" "] |= SPACE
    CLASSES[<int>c"\t"] |= SPACE
    CLASSES[<int>c"\r"] |= SPACE
    CLASSES[<int>c"\n"] |= SPACE


fill_classes()


cdef inline Py_ssize_t after_space(const unsigned char* p, Py_ssize_t n, Py_ssize_t i) noexcept nogil:
    while i < n and CLASSES[p[i]] & SPACE:
        i += 1
    return i


cdef inline Py_ssize_t string_end(const unsigned char* p, Py_ssize_t n, Py_ssize_t i) noexcept nogil:
    """Return the index of the closing quote of a string whose text starts at i, -1 if the string is not plain."""
    i = plain_end(p, n, i)
    if i < n and p[i] == c"\"":
        return i
    return -1


cdef inline Py_ssize_t after_number(const unsigned char* p, Py_ssize_t n, Py_ssize_t i) noexcept nogil:
    """Return the index after a number without exponent at i, -1 if there is none."""
    cdef Py_ssize_t whole, fraction
    if i < n and p[i] == c"-":
        i += 1
    whole = i
    while i < n and CLASSES[p[i]] & DIGIT:
        i += 1
    whole = i - whole
    if whole == 0 or (whole > 1 and p[i - whole] == c"0"):
        return -1
    fraction = 0
    if i < n and p[i] == c".":
        i += 1
        fraction = i
        while i < n and CLASSES[p[i]] & DIGIT:
            i += 1
        fraction = i - fraction
        if fraction == 0:
            return -1
    return i if whole + fraction <= MAX_DIGITS else -1


cdef inline Py_ssize_t after_literal(const unsigned char* p, Py_ssize_t n, Py_ssize_t i) noexcept nogil:
    """Return the index after ``true``, ``false`` or ``null`` at i, -1 if there is none."""
    if n - i >= 4 and (memcmp(p + i, b"true", 4) == 0 or memcmp(p + i, b"null", 4) == 0):
        return i + 4
    if n - i >= 5 and memcmp(p + i, b"false", 5) == 0:
        return i + 5
    return -1


cdef bytes plain(text, what):
    if not isinstance(text, str):
        raise TypeError(f"{what} must be str, got {type(text).__name__}")
    if not (text.isascii() and text.isprintable()) or '"' in text or "\\" in text:
        raise ValueError(f"{what} must be printable ASCII without quotes or backslashes, got {text!r}")
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError(f"{what} must have at most {MAX_TEXT_BYTES} characters, got {len(text)}")
    return text.encode("ascii")


cdef bytes token(path, value):
    """Return the JSON text of a required value."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError(f"value of {path} must be str or int, got {type(value).__name__}")
    if isinstance(value, str):
        return b'"%b"' % plain(value, f"value of {path}")
    if abs(value) >= 10**MAX_DIGITS:
        raise ValueError(f"value of {path} must have at most {MAX_DIGITS} digits, got {value}")
    return b"%d" % value


@cython.final
@cython.auto_pickle(False)
cdef class SpanFinder:
    """
    Finds the base64 text of a JSON message of a known shape.

    Args:
        payload: Path of the base64 text: one key, or two joined by a dot.
        equal: Paths that must have exactly this value.
        absent_or_equal: Paths that must be absent or have exactly this value.

    Raises:
        ValueError: If the finder cannot search for a path or value, or there are more than 8 paths.
        TypeError: If a path is not str, or a value neither str nor int.
    """

    def __cinit__(self, payload, equal, absent_or_equal=None):
        self.own_index, self.texts = -1, []
        if payload is COPY:
            return
        self.make_fields()
        if 1 + len(equal) + len(absent_or_equal or {}) > MAX_PATHS:
            raise ValueError(
                f"at most {MAX_PATHS} paths can be used, got {1 + len(equal) + len(absent_or_equal or {})}"
            )
        self.add(payload, PAYLOAD, b"")
        for path, value in equal.items():
            self.add(path, EQUAL, token(path, value))
        for path, value in (absent_or_equal or {}).items():
            self.add(path, ABSENT_OR_EQUAL, token(path, value))

    def __dealloc__(self):
        if self.owns_fields:
            PyMem_Free(self.fields)

    cdef int add(self, path, int kind, bytes value) except -1:
        cdef int scope = TOP
        cdef int index
        if not isinstance(path, str):
            raise TypeError(f"path must be str, got {type(path).__name__}")
        outer, dot, inner = path.partition(".")
        if not outer or "." in inner or (dot and not inner):
            raise ValueError(f"path must be one key or two joined by a dot, got {path!r}")
        key = plain(outer, "key")
        if dot:
            scope = self.field_of(key, TOP)
            if scope < 0:
                scope = self.append(key, TOP, PARENT, b"")
            elif self.fields[scope].kind != PARENT:
                raise ValueError(f"path {path!r} cannot be used beside {outer!r}")
            key = plain(inner, "key")
        index = self.field_of(key, scope)
        if index >= 0:
            raise ValueError(f"path {path!r} is used twice, or beside a path to a key in it")
        self.append(key, scope, kind, value)
        return 0

    def with_value(self, path, value):
        """
        Return a finder that differs only in the value required at a path; both share all else.

        Raises:
            ValueError: If this finder requires no value there, or cannot search for this one.
            TypeError: If the value is neither str nor int.
        """
        cdef SpanFinder other = SpanFinder.__new__(SpanFinder, COPY, None)
        cdef bytes wanted = token(path, value)
        if self.own_index < 0:
            other.fields = self.fields
        else:
            # A finder has one value of its own: the present one goes into the fields.
            other.make_fields()
            memcpy(other.fields, self.fields, MAX_FIELDS * sizeof(Field))
            other.fields[self.own_index].value = self.own_value
            other.fields[self.own_index].value_bytes = self.own_bytes
        other.field_count, other.required = self.field_count, self.required
        other.texts = [self, wanted]
        other.own_index = other.index_at(path)
        other.own_value = PyBytes_AS_STRING(wanted)
        other.own_bytes = <int>PyBytes_GET_SIZE(wanted)
        return other

    cdef int index_at(self, path) except -1:
        """Return the index of the field of a path that requires a value."""
        cdef int index = TOP
        for key in path.split("."):
            index = self.field_of(plain(key, "key"), index)
            if index < 0:
                break
        if index < 0 or self.fields[index].kind not in (EQUAL, ABSENT_OR_EQUAL):
            raise ValueError(f"no value is wanted at {path!r}")
        return index

    cdef int field_of(self, bytes key, int scope) except -2:
        return self.lookup(scope, <const unsigned char*>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))

    cdef int append(self, bytes key, int scope, int kind, bytes value) except -1:
        """Add a field and return its index; MAX_PATHS paths make at most MAX_FIELDS fields."""
        cdef int index = self.field_count
        assert index < MAX_FIELDS
        self.texts += [key, value]
        self.fields[index] = Field(
            key=PyBytes_AS_STRING(key),
            value=PyBytes_AS_STRING(value),
            value_bytes=<int>PyBytes_GET_SIZE(value),
            key_bytes=<short>PyBytes_GET_SIZE(key),
            scope=<signed char>scope,
            kind=<signed char>kind,
        )
        if kind == PAYLOAD or kind == EQUAL:
            self.required |= 1u << index
        self.field_count += 1
        return index

    cdef int lookup(self, int scope, const unsigned char* key, Py_ssize_t n) noexcept nogil:
        """Return the index of the field with this key in this scope, -1 if there is none."""
        cdef int i
        cdef const Field* field
        for i in range(self.field_count):
            field = &self.fields[i]
            if (
                field.key_bytes == n
                and field.scope == scope
                and memcmp(field.key, key, <size_t>n) == 0
            ):
                return i
        return -1

    def find(self, bytes message not None):
        """
        Return where the base64 text of a message starts and ends.

        Returns:
            None if the message has another shape or is not plain JSON; a full parser must read it then. A message with a
            backslash or a character outside printable ASCII in a key or a compared value, half of a surrogate pair, a
            repeated key of the shape, more than 8 levels, or a number with an exponent or more than 18 digits is not
            plain.
        """
        cdef Py_ssize_t start = 0
        cdef Py_ssize_t end = 0
        if self.find_c(PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message), &start, &end):
            return start, end
        return None

    cdef bint find_c(self, const char* text, Py_ssize_t n, Py_ssize_t* start, Py_ssize_t* end) noexcept nogil:
        cdef const unsigned char* p = <const unsigned char*>text
        cdef const unsigned char* quote
        cdef const char* wanted
        cdef Py_ssize_t wanted_bytes
        # Bit d is set if level d is an object; level 0 is outside the message's object.
        cdef unsigned int objects = 0
        cdef int depth = 0
        cdef int scope = OTHER
        cdef int second_scope = OTHER
        cdef int index = -1
        cdef unsigned int seen = 0
        cdef Py_ssize_t i, begin

        i = after_space(p, n, 0)
        if i >= n or p[i] != c"{":
            return False
        while True:
            # Here i is at the first character of a value; field ``index``, if any, describes it.
            begin = i
            if i >= n:
                return False
            if p[i] == c"\"":
                if index >= 0 and self.fields[index].kind == PAYLOAD:
                    quote = <const unsigned char*>memchr(p + i + 1, c"\"", <size_t>(n - i - 1))
                    if quote == NULL or not is_base64_c(p + i + 1, quote - (p + i + 1)):
                        return False
                    start[0] = i + 1
                    end[0] = quote - p
                    i = quote - p + 1
                    index = -1
                else:
                    i = string_end(p, n, i + 1) if index >= 0 else any_string_end(p, n, i + 1)
                    if i < 0:
                        return False
                    i += 1
            elif p[i] == c"{" or p[i] == c"[":
                if depth == MAX_DEPTH or (index >= 0 and (self.fields[index].kind != PARENT or p[i] == c"[")):
                    return False
                depth += 1
                if depth == 1:
                    scope = TOP
                else:
                    scope = index if index >= 0 else OTHER
                if depth == 2:
                    second_scope = scope
                index = -1
                if p[i] == c"[":
                    objects &= ~(1u << depth)
                    i = after_space(p, n, i + 1)
                    if i >= n:
                        return False
                    if p[i] != c"]":
                        continue
                else:
                    objects |= 1u << depth
                    i = after_space(p, n, i + 1)
                    if i >= n:
                        return False
                    if p[i] != c"}":
                        i = self.after_key(p, n, i, scope, &index, &seen)
                        if i < 0:
                            return False
                        continue
                # Here i is at the bracket of an empty container, which is closed below.
            elif p[i] == c"-" or CLASSES[p[i]] & DIGIT:
                i = after_number(p, n, i)
                if i < 0:
                    return False
            else:
                i = after_literal(p, n, i)
                if i < 0:
                    return False
            if index >= 0:
                wanted = self.own_value if index == self.own_index else self.fields[index].value
                wanted_bytes = self.own_bytes if index == self.own_index else self.fields[index].value_bytes
                if wanted_bytes != i - begin or memcmp(p + begin, wanted, <size_t>(i - begin)) != 0:
                    return False
                index = -1

            # After a value: close containers until the next value, or the end of the message.
            while True:
                i = after_space(p, n, i)
                if i >= n:
                    return False
                if p[i] == c",":
                    i = after_space(p, n, i + 1)
                    if objects & (1u << depth):
                        i = self.after_key(p, n, i, scope, &index, &seen)
                        if i < 0:
                            return False
                    break
                if p[i] != (c"}" if objects & (1u << depth) else c"]"):
                    return False
                i += 1
                depth -= 1
                if depth == 0:
                    return after_space(p, n, i) == n and seen & self.required == self.required
                scope = TOP if depth == 1 else second_scope if depth == 2 else OTHER

    cdef Py_ssize_t after_key(
        self, const unsigned char* p, Py_ssize_t n, Py_ssize_t i, int scope, int* index, unsigned int* seen
    ) noexcept nogil:
        """Return the index of the value after the key at i, -1 if refused; set its ``index`` and ``seen``."""
        cdef Py_ssize_t end
        if i >= n or p[i] != c"\"":
            return -1
        end = string_end(p, n, i + 1)
        if end < 0:
            return -1
        index[0] = -1
        if scope != OTHER:
            index[0] = self.lookup(scope, p + i + 1, end - i - 1)
            if index[0] >= 0:
                if seen[0] & (1u << index[0]):
                    return -1
                seen[0] |= 1u << index[0]
        i = after_space(p, n, end + 1)
        if i >= n or p[i] != c":":
            return -1
        return after_space(p, n, i + 1)


@cython.final
@cython.auto_pickle(False)
cdef class Envelope:
    """The constant text before and after the payload of a message."""

    def __cinit__(self, bytes prefix not None, bytes suffix not None):
        self.prefix = prefix
        self.suffix = suffix

    def wrap_payload(self, bytes payload not None):
        """Return the payload between prefix and suffix."""
        return self.prefix + payload + self.suffix
