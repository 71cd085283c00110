-module(tally_tests).
-include_lib("eunit/include/eunit.hrl").

nothing_test() ->
    ?assertEqual([], tally:count([])).

counted_and_sorted_test() ->
    ?assertEqual([{"a", 2}, {"b", 1}], tally:count(["b", "a", "a"])).

printing_test() ->
    ?assertEqual(ok, tally:main(["a"])).
