-module(tally).
-export([main/1, count/1]).

%% Each word with how often it is there, sorted.
-spec count([string()]) -> [{string(), pos_integer()}].
count(Words) ->
    Counts = lists:foldl(fun(W, M) -> maps:update_with(W, fun(N) -> N + 1 end, 1, M) end, #{}, Words),
    lists:sort(maps:to_list(Counts)).

-spec main([string()]) -> ok.
main(Words) ->
    lists:foreach(fun({Word, N}) -> io:format("~ts ~b~n", [Word, N]) end, count(Words)).
