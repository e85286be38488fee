"""Span finder and envelopes, on both implementations, against orjson and binascii."""

import base64
from types import ModuleType

import orjson
import pytest
from codec_cases import assert_orjson_agrees, small

from _codec import media_json, reference

PAYLOAD = base64.b64encode(bytes(range(160))).decode()
STREAM_SID = "MZ" + "0123456789abcdef" * 2
EQUAL: dict[str, str | int] = {"event": "media", "media.track": "inbound", "streamSid": STREAM_SID}
MESSAGE = orjson.dumps(
    {
        "event": "media",
        "sequenceNumber": "3",
        "media": {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": PAYLOAD},
        "streamSid": STREAM_SID,
    }
)


@pytest.fixture(params=[reference, media_json], ids=["python", "cython"], scope="module")
def codec(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


class TestFind:
    def test_twilio_media_message(self, codec):
        start, end = codec.SpanFinder("media.payload", EQUAL).find(MESSAGE)
        assert MESSAGE[start:end].decode() == PAYLOAD

    def test_message_cut_anywhere_is_refused(self, codec):
        finder = codec.SpanFinder("media.payload", EQUAL)
        for length in range(len(MESSAGE)):
            assert finder.find(MESSAGE[:length]) is None, length

    def test_every_changed_byte_is_refused_or_read_as_orjson_reads_it(self, codec):
        finder = small(codec)
        message = b'{"e":"m","x":[1,{"p":"B"}],"v":1,"a":{"q":"r","p":"AAA="}}'
        for place in range(len(message)):
            for byte in range(256):
                changed = message[:place] + bytes([byte]) + message[place + 1 :]
                span = finder.find(changed)
                if span:
                    assert_orjson_agrees(changed, span)

    @pytest.mark.parametrize(
        "message",
        [
            '{"e":"m","a":{"p":"AAAA"}}',
            '{"a":{"p":"AAAA"},"e":"m"}',
            '{"e":"m","a":{"p":""}}',
            '{"e":"m","v":1,"a":{"q":"r","p":"AAAA"}}',
            ' \t\r\n{ "e" : "m" ,\n"a"\t: {\r"p" : "AAAA" } } \n',
            '{"p":"B","e":"m","a":{"e":"x","v":9,"p":"AAAA"}}',
            '{"e":"m","c":{"p":"B","e":"x","a":{"p":"C"}},"a":{"p":"AAAA"}}',
            '{"e":"m","a":{"o":{"p":"B","q":"x"},"l":[{"p":"C"}],"p":"AAAA"}}',
            '{"e":"m","c":["p","a","e"],"x":"e","a":{"x":"p","p":"AAAA"}}',
            '{"e":"m","x":1,"x":2,"":3,"a":{"p":"AAAA","y":1,"y":2}}',
            '{"e":"m","c":[true,false,null,0,-0,-1.50,123456789012345678,[],{},[[]]],"a":{"p":"AAAA"}}',
            '{"e":"m","c":[[[[[[[]]]]]]],"a":{"p":"AAAA"}}',
            '{"e":"m","c":"~ !#[]{},:","a":{"p":"AAAA"}}',
            '{"e":"m","x":"\\n\\"\\\\\\/","a":{"p":"AAAA"}}',
            '{"e":"m","x":"\\u00fc\\uD7ff\\uE000","a":{"p":"AAAA"}}',
            '{"e":"m","x":"\x80é߿ࠀ\ud7ff\ue000\uffff𐀀\U0010ffff","a":{"p":"AAAA"}}',
            '{"e":"m","x":["über",{"y":"\\t"}],"a":{"o":"ß","p":"AAAA"}}',
        ],
    )
    def test_shape_is_found_in_plain_json(self, codec, message):
        span = small(codec).find(message.encode())
        assert span is not None
        assert_orjson_agrees(message.encode(), span)

    @pytest.mark.parametrize(
        "message",
        [
            # The shape is another.
            "", " ", "{}", "[]", "1", '"m"', "null", '["e","m"]', '[{"e":"m","a":{"p":"AAAA"}}]',
            '{"e":"m"}', '{"a":{"p":"AAAA"}}', '{"e":"m","a":{}}', '{"e":"m","p":"AAAA"}',
            '{"e":"mm","a":{"p":"AAAA"}}',
            '{"e":"mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm","a":{"p":"AAAA"}}',
            '{"e":"","a":{"p":"AAAA"}}', '{"E":"m","a":{"p":"AAAA"}}',
            '{"e":null,"a":{"p":"AAAA"}}', '{"e":["m"],"a":{"p":"AAAA"}}', '{"e":{"e":"m"},"a":{"p":"AAAA"}}',
            '{"e":"m","v":2,"a":{"p":"AAAA"}}', '{"e":"m","v":"1","a":{"p":"AAAA"}}',
            '{"e":"m","v":1.0,"a":{"p":"AAAA"}}', '{"e":"m","v":true,"a":{"p":"AAAA"}}',
            '{"e":"m","v":null,"a":{"p":"AAAA"}}', '{"e":"m","v":[1],"a":{"p":"AAAA"}}',
            '{"e":"m","v":10,"a":{"p":"AAAA"}}', '{"e":"m","v":-1,"a":{"p":"AAAA"}}',
            '{"e":"m","a":{"q":"s","p":"AAAA"}}', '{"e":"m","a":{"q":null,"p":"AAAA"}}',
            '{"e":"m","a":"AAAA"}', '{"e":"m","a":[{"p":"AAAA"}]}', '{"e":"m","a":null}', '{"e":"m","a":1}',
            '{"e":"m","a":{"p":1}}', '{"e":"m","a":{"p":["AAAA"]}}', '{"e":"m","a":{"p":null}}',
            '{"e":"m","a":{"o":{"p":"AAAA"}}}', '{"e":"m","b":{"p":"AAAA"}}', '{"e":"m","a":{"a":{"p":"AAAA"}}}',
            '{"e":"m","a":{"p":"AAA"}}', '{"e":"m","a":{"p":"AA=A"}}', '{"e":"m","a":{"p":"A A="}}',
            # A used key occurs twice.
            '{"e":"m","e":"m","a":{"p":"AAAA"}}', '{"e":"m","a":{"p":"AAAA","p":"BBBB"}}',
            '{"e":"m","a":{"p":"AAAA"},"a":{"p":"AAAA"}}', '{"e":"m","v":1,"v":1,"a":{"p":"AAAA"}}',
            '{"e":"m","a":{"p":"AAAA"},"a":{}}', '{"e":"m","a":{"p":"AAAA","o":{},"p":"AAAA"}}',
            # Not plain.
            '{"e":"m","a":{"p":"AA\\/A"}}', '{"\\u0065":"m","a":{"p":"AAAA"}}', '{"e":"m","é":1,"a":{"p":"AAAA"}}',
            '{"e":"m","x":"\n","a":{"p":"AAAA"}}', '{"e":"\\u006d","a":{"p":"AAAA"}}', '{"e":"mé","a":{"p":"AAAA"}}',
            '{"e":"m","x\\n":1,"a":{"p":"AAAA"}}',
            *(
                '{"e":"m","x":"?","a":{"p":"AAAA"}}'.replace("?", bad)
                for bad in ("\\", "\\x", "\\u", "\\u00", "\\u00g0", "\\uD800", "\\udfff", "\\ud83d\\ude00", "\\'")
            ),
            '{"e":"m","x":"\x7f","a":{"p":"AAAA"}}', '{"e":"m","x":"\0","a":{"p":"AAAA"}}',
            '\ufeff{"e":"m","a":{"p":"AAAA"}}', '{"e":"m","x":[[[[[[[[]]]]]]]],"a":{"p":"AAAA"}}',
            '{"e":"m","x":[[[[[[[{}]]]]]]],"a":{"p":"AAAA"}}',
            # Not JSON, or a number that is read differently by different parsers.
            *(
                '{"e":"m","x":?,"a":{"p":"AAAA"}}'.replace("?", bad)
                for bad in (
                    "1e5", "1E5", "0e0", "01", "-01", "00", "+1", "-", ".5", "1.", "1.e1", "0x1", "1_0", "--1",
                    "1234567890123456789", "0.123456789012345678", "NaN", "Infinity", "-Infinity", "nul", "truefalse",
                    "True", "nulll", "'s'", "", "[1,]", "[,1]", "[1 2]", "[", "]", "{", "[}", "[1}", "{]", '{"k"}',
                    '{"k":}', '{"k":1,}', '{,"k":1}', "{1:2}", '{"k" 1}', '{"k":1 "l":2}', '"s', "[:]", "[1:2]",
                    "/**/1", '"a""b"', "1\v", "\xa01", "[[]",
                )
            ),
            '{"e":"m","a":{"p":"AAAA"}', '{"e":"m","a":{"p":"AAAA"}}}', '{"e":"m","a":{"p":"AAAA"}} x',
            '{"e":"m","a":{"p":"AAAA"}}\0', '{"e":"m","a":{"p":"AAAA"}}{}', '{"e":"m","a":{"p":"AAAA"},}',
            '{"e":"m",,"a":{"p":"AAAA"}}', '{"e":"m""a":{"p":"AAAA"}}', '{"e":"m","a":{"p":"AAAA"]}',
            '{"e":"m","a":{"p":"AAAA', '{"e":"m","a":{"p":"AAAA"', '{"e":"m","a":{"p":', '{"e":"m","a":{"p"',
            '{"e":"m","a":{"p":"', '{e:"m","a":{"p":"AAAA"}}', '\v{"e":"m","a":{"p":"AAAA"}}',
        ],
    )  # fmt: skip
    def test_all_else_is_refused(self, codec, message):
        assert small(codec).find(message.encode()) is None

    BAD_UTF8 = (
        b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xc3(", b"\xe0\x9f\xbf", b"\xe2\x82", b"\xe2(\xa1",
        b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x8f\xbf\xbf", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80", b"\xff",
    )  # fmt: skip

    @pytest.mark.parametrize("bad", BAD_UTF8)
    def test_what_is_not_utf8_is_refused_in_every_string(self, codec, bad):
        assert small(codec).find(b'{"e":"m","x":"' + bad + b'","a":{"p":"AAAA"}}') is None
        assert small(codec).find(b'{"e":"m","x":["' + bad + b'"],"a":{"p":"AAAA"}}') is None

    @pytest.mark.parametrize("bad", [b"\xc3\xa9", b"\xef\xbb\xbf", *BAD_UTF8])
    def test_bytes_beyond_ascii_are_refused_where_a_text_is_looked_at(self, codec, bad):
        message = b'{"e":"m","a":{"p":"AAAA"}}'
        for place in range(len(message) + 1):
            assert small(codec).find(message[:place] + bad + message[place:]) is None

    def test_parent_may_be_absent_where_all_below_it_may(self, codec):
        finder = codec.SpanFinder("p", {}, {"a.q": "r"})
        assert finder.find(b'{"p":"AAAA"}') == (6, 10)
        assert finder.find(b'{"p":"AAAA","a":{}}') == (6, 10)
        assert finder.find(b'{"p":"AAAA","a":null}') is None

    def test_numbers_are_compared_by_their_text(self, codec):
        finder = codec.SpanFinder("p", {"n": -12})
        assert finder.find(b'{"p":"AAAA","n":-12}') == (6, 10)
        for other in (b"-12.0", b"12", b'"-12"', b"-1", b"-120"):
            assert finder.find(b'{"p":"AAAA","n":%b}' % other) is None


class TestOtherValue:
    @pytest.mark.parametrize(
        ("path", "value", "text"),
        [
            ("s", "2", b'{"e":"m","s":"2","a":{"p":"AAAA","t":"x"}}'),
            ("a.t", 777, b'{"e":"m","s":"1","a":{"p":"AAAA","t":777}}'),
        ],
    )
    def test_only_the_value_of_that_path_differs(self, codec, path, value, text):
        one = codec.SpanFinder("a.p", {"e": "m", "s": "1"}, {"a.t": "x"})
        two = one.with_value(path, value)
        mine = b'{"e":"m","s":"1","a":{"p":"AAAA","t":"x"}}'
        assert (one.find(mine), one.find(text)) == ((27, 31), None)
        assert (two.find(mine), two.find(text)) == (None, (27, 31))

    def test_two_values_of_one_finder_do_not_touch_each_other(self, codec):
        one = codec.SpanFinder("p", {"s": "1"})
        two, three = one.with_value("s", "2"), one.with_value("s", "3")
        texts = [b'{"p":"AAAA","s":"%d"}' % n for n in (1, 2, 3)]
        for finder in (one, two, three):
            found = [finder.find(text) is not None for text in texts]
            assert found == [finder is each for each in (one, two, three)]

    def test_several_values_differ_one_after_the_other(self, codec):
        one = codec.SpanFinder("a.p", {"e": "m", "s": "1"}, {"a.t": "x"})
        two = one.with_value("s", "22").with_value("a.t", 7)
        three = two.with_value("s", "3")
        texts = [
            b'{"e":"m","s":"1","a":{"p":"AAAA","t":"x"}}',
            b'{"e":"m","s":"22","a":{"p":"AAAA","t":7}}',
            b'{"e":"m","s":"3","a":{"p":"AAAA","t":7}}',
        ]
        for finder in (one, two, three):
            found = [finder.find(text) is not None for text in texts]
            assert found == [finder is each for each in (one, two, three)]

    def test_it_outlives_the_finder_it_was_made_from(self, codec):
        finder = codec.SpanFinder("p", {"key": "some text"}).with_value("key", "another text")
        assert finder.find(b'{"p":"AAAA","key":"another text"}') == (6, 10)

    @pytest.mark.parametrize("path", ["x", "a", "a.p", "a.x", "p.t", "a.t.t"])
    def test_path_without_a_wanted_value_is_refused(self, codec, path):
        finder = codec.SpanFinder("a.p", {"s": "1"}, {"a.t": "x"})
        with pytest.raises(ValueError, match=f"no value is wanted at '{path}'"):
            finder.with_value(path, "v")

    def test_value_that_cannot_be_looked_for_is_refused(self, codec):
        finder = codec.SpanFinder("p", {"s": "1"})
        with pytest.raises(ValueError, match="value of s must be printable"):
            finder.with_value("s", '"')
        with pytest.raises(TypeError, match="value of s must be str or int"):
            finder.with_value("s", None)


class TestPaths:
    def test_texts_are_bounded(self, codec):
        assert codec.SpanFinder("k" * 4096, {}).find(b'{"%b":"AAAA"}' % (b"k" * 4096)) is not None
        with pytest.raises(ValueError, match="key must have at most 4096 characters, got 4097"):
            codec.SpanFinder("k" * 4097, {})

    @pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a.b.c", "é", 'a"', "a\\", "a\n"])
    def test_unusable_path_is_refused(self, codec, path):
        with pytest.raises(ValueError, match=r"path|key"):
            codec.SpanFinder(path, {})
        with pytest.raises(ValueError, match=r"path|key"):
            codec.SpanFinder("ok", {path: "v"})

    @pytest.mark.parametrize("value", ["é", '"', "\\", "\n", "\x7f", 10**18, -(10**18)])
    def test_value_with_more_than_one_text_is_refused(self, codec, value):
        with pytest.raises(ValueError, match="value of k must"):
            codec.SpanFinder("p", {"k": value})

    @pytest.mark.parametrize("value", [True, None, 1.0, b"v", ["v"]])
    def test_value_of_another_type_is_refused(self, codec, value):
        with pytest.raises(TypeError, match="value of k must be str or int"):
            codec.SpanFinder("p", {}, {"k": value})

    @pytest.mark.parametrize(
        ("payload", "equal", "optional"),
        [
            ("p", {"p": "v"}, {}),
            ("p", {"k": "v"}, {"k": "v"}),
            ("a.p", {"a": "v"}, {}),
            ("a", {"a.p": "v"}, {}),
        ],
    )
    def test_path_that_is_used_twice_is_refused(self, codec, payload, equal, optional):
        with pytest.raises(ValueError, match="path"):
            codec.SpanFinder(payload, equal, optional)

    def test_eight_paths_are_the_most(self, codec):
        equal = {f"k{i}.m": i for i in range(7)}
        message = orjson.dumps({"a": {"p": "AAAA"}, **{f"k{i}": {"m": i} for i in range(7)}})
        assert codec.SpanFinder("a.p", equal).find(message) == (11, 15)
        with pytest.raises(ValueError, match="at most 8 paths can be used, got 9"):
            codec.SpanFinder("a.p", equal, {"one": "more"})


class TestEnvelope:
    def test_payload_is_put_between_prefix_and_suffix(self, codec):
        envelope = codec.Envelope(b'{"audio":"', b'"}')
        assert envelope.wrap_payload(b"AAAA") == b'{"audio":"AAAA"}'
        assert codec.Envelope(b"", b"").wrap_payload(b"") == b""
