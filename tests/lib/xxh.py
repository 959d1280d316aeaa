"""XXH3-128 of bytes and files, through libxxhash, as 32 hexadecimal digits."""
import ctypes

_lib = ctypes.CDLL("libxxhash.so.0")


class _Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


_lib.XXH3_createState.restype = ctypes.c_void_p
_lib.XXH3_freeState.argtypes = [ctypes.c_void_p]
_lib.XXH3_128bits_reset.argtypes = [ctypes.c_void_p]
_lib.XXH3_128bits_update.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
_lib.XXH3_128bits_digest.argtypes = [ctypes.c_void_p]
_lib.XXH3_128bits_digest.restype = _Hash128


def of_chunks(chunks):
    state = _lib.XXH3_createState()
    try:
        _lib.XXH3_128bits_reset(state)
        for chunk in chunks:
            _lib.XXH3_128bits_update(state, chunk, len(chunk))
        digest = _lib.XXH3_128bits_digest(state)
        return f"{digest.high:016x}{digest.low:016x}"
    finally:
        _lib.XXH3_freeState(state)


def of_bytes(data):
    return of_chunks([data])


def of_file(path, length):
    """The hash of the first length bytes; fails when the file is shorter."""

    def chunks():
        left = length
        with open(path, "rb") as f:
            while left:
                chunk = f.read(min(left, 1 << 20))
                assert chunk, f"{path} is shorter than {length} bytes"
                left -= len(chunk)
                yield chunk

    return of_chunks(chunks())
