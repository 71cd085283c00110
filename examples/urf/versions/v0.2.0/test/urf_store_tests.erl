-module(urf_store_tests).
-include_lib("eunit/include/eunit.hrl").

counts_test() ->
    {ok, Pid} = urf_store:start_link(),
    ?assertEqual(0, urf_store:get()),
    ?assertEqual(1, urf_store:incr()),
    ?assertEqual(2, urf_store:incr()),
    ?assertEqual(2, urf_store:get()),
    gen_server:stop(Pid).

%% what a running 0.1.0 hands over, and back
converts_test() ->
    {ok, New} = urf_store:code_change(undefined, {state, 7}, []),
    ?assertMatch({state, 7, _}, New),
    ?assertEqual({ok, {state, 7}}, urf_store:code_change({down, undefined}, New, [])).
